// One volume in NiiVue, from the pictures of its slices.
const dialog = document.getElementById("viewer");
let niivuePromise = null, viewer = null;

async function loadNiivue() {
  const packed = Uint8Array.from(atob(document.getElementById("niivue").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  return niivue;
}

async function grayOf(picture) {
  const image = new Image();
  image.src = picture;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const {data} = pen.getImageData(0, 0, image.width, image.height);
  return {width: image.width, value: (x, y) => data[4 * (y * image.width + x)]};
}

// Voxels in the order of NIfTI, first right to left, from posterior to anterior, from inferior to superior.
function volumeOf(picture, {columns, shape: [width, height], slices, n_slices}, voxels, convert) {
  slices.forEach((slice, place) => {
    const left = (place % columns) * width, top = Math.floor(place / columns) * height;
    for (let j = 0; j < height; j++)
      for (let i = 0; i < width; i++)
        voxels[(slice * height + j) * width + i] = convert(picture.value(left + i, top + height - 1 - j), place);
  });
  return voxels;
}

// A NIfTI-1 file: header of 348 bytes, 4 without extensions, voxels.
function nifti({shape, n_slices, affine}, voxels, datatype) {
  const buffer = new ArrayBuffer(352 + voxels.byteLength), view = new DataView(buffer);
  const steps = [0, 1, 2].map(axis => Math.hypot(...affine.map(row => row[axis])));
  view.setInt32(0, 348, true);
  [3, ...shape, n_slices, 1, 1, 1, 1].forEach((n, k) => view.setInt16(40 + 2 * k, n, true));
  view.setInt16(70, datatype, true);
  view.setInt16(72, 8 * voxels.BYTES_PER_ELEMENT, true);
  [1, ...steps].forEach((step, k) => view.setFloat32(76 + 4 * k, step, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true);
  view.setUint8(123, 2);
  view.setInt16(254, 1, true);
  affine.flat().forEach((value, k) => view.setFloat32(280 + 4 * k, value, true));
  [0x6e, 0x2b, 0x31, 0].forEach((byte, k) => view.setUint8(344 + k, byte));
  new Uint8Array(buffer, 352).set(new Uint8Array(voxels.buffer));
  return URL.createObjectURL(new Blob([buffer]));
}

async function openViewer(place) {
  const data = dataOf(place), n = data.shape[0] * data.shape[1] * data.n_slices;
  dialog.showModal();
  show();
  document.getElementById("viewer-title").textContent = place.dataset.image;
  const [library, sheet, labels] = await Promise.all(
    [niivuePromise ??= loadNiivue(), grayOf(data.sheet), grayOf(data.labels)]);
  const intensities = volumeOf(sheet, data, new Float32Array(n), (gray, at) => {
    const [dark, bright] = data.ranges[at];
    return dark + (bright - dark) * gray / 255;
  });
  const tissues = volumeOf(labels, data, new Uint8Array(n), gray => Math.round(gray / 127));
  if (!viewer) {
    viewer = new library.Niivue({
      isRadiologicalConvention: true, dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "",
      show3Dcrosshair: true, multiplanarShowRender: 0, backColor: [0, 0, 0, 1], crosshairWidth: 0.2, crosshairWidthUnit: "mm",
      loadingText: "", logLevel: "error",
    });
    await viewer.attachToCanvas(document.getElementById("canvas"));
  }
  const urls = [nifti(data, intensities, 16), nifti(data, tissues, 2)];
  const known = data.ranges.flat();
  await viewer.loadVolumes([
    {url: urls[0], name: "image.nii", colormap: "gray", cal_min: Math.min(...known), cal_max: Math.max(...known)},
    {url: urls[1], name: "masks.nii", opacity: Number(document.getElementById("opacity").value)},
  ]);
  urls.forEach(url => URL.revokeObjectURL(url));
  viewer.volumes[1].setColormapLabel({
    R: [0, 47, 255], G: [0, 139, 77], B: [0, 255, 90], A: [0, 255, 255], I: [0, 1, 2], labels: ["", "cord", "gray matter"],
  });
  setPlane();
  viewer.updateGLVolume();
  complain("");
}

const setPlane = () => viewer?.setSliceType(viewer[`sliceType${document.getElementById("plane").value}`]);

document.getElementById("plane").addEventListener("change", setPlane);
document.getElementById("opacity").addEventListener("input", ({target}) => viewer?.setOpacity(1, Number(target.value)));
for (const place of cases)
  place.querySelector(".open")?.addEventListener("click", () => {
    choose(place);
    openViewer(place).catch(error => {
      dialog.close();
      complain(`The viewer cannot show this volume: ${error.message}`);
    });
  });
