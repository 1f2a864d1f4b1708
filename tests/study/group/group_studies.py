"""Summaries of synthetic studies."""

import csv

import numpy as np

SHARE = {"wm_perpendicular_mm2": 5.0, "cord_perpendicular_mm2": 6.0, "cord_ap_mm": 0.5, "cord_rl_mm": 0.8}


def row(participant, region, value, *, session="n/a", run="n/a", **more):
    """A row of summary.tsv in which the gray matter has a value."""
    name = "_".join(
        part for part in (participant, session, run and f"run-{run}") if part not in ("n/a", "run-n/a")
    )
    other = {name: share * value for name, share in SHARE.items()} | {"gm_cord_ratio": 1 / 6}
    known = {"participant_id": participant, "session_id": session, "run": run, "region": region}
    known |= {"image": f"{participant}/anat/{name}_T2starw.nii.gz", "verdict": "pass", "status": "segmented"}
    return known | {"gm_perpendicular_mm2": value} | other | more


def write_summary(folder, rows, columns=None):
    """Write summary.tsv; what a row lacks is n/a."""
    folder.mkdir(exist_ok=True)
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "summary.tsv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, "n/a", "ignore", dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def multicentre(participants=24, sessions=2, runs=2, regions=("all", "2", "3", "4", "5"), seed=0):
    """A study with sites of three vendors, sessions and runs; the first participant is an outlier at level 3."""
    rng = np.random.default_rng(seed)
    vendors = ("Siemens", "SIEMENS", "GE MEDICAL SYSTEMS", "Philips")
    rows = []
    for number in range(participants):
        site = number % 4
        person = rng.normal(16, 1.2)
        about = {"age": 20 + number, "sex": "MF"[number // 4 % 2], "site": f"site{site + 1}"}
        about |= {
            "manufacturer": vendors[site],
            "model": "Prisma" if site < 2 else "n/a",
            "field_strength_t": 3,
        }
        for session in range(1, sessions + 1):
            for run in range(1, runs + 1):
                for place, region in enumerate(regions):
                    value = person + 0.6 * place - 0.5 * (session - 1) + 0.8 * site + rng.normal(0, 0.25)
                    if number == 0 and region == "3":
                        value += 15
                    cord = 70 + 3 * value + rng.normal(0, 1)
                    more = {"cord_perpendicular_mm2": cord, "wm_perpendicular_mm2": cord - value}
                    more |= {
                        "gm_cord_ratio": value / cord,
                        "contrast_to_noise": rng.normal(4, 0.5) - 0.3 * site,
                    }
                    name = f"sub-{number:02d}"
                    rows.append(
                        row(name, region, value, session=f"ses-{session}", run=str(run), **about, **more)
                    )
    return rows


def of_gray_matter(table):
    """The rows of a table about the area of gray matter."""
    return table.rows[table.rows["measure"] == "gm_perpendicular_mm2"]
