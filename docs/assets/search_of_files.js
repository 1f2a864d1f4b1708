// Browsers start no worker for a page that was opened as a file. There, a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inner = this.frame.contentWindow;
      this.inner.postMessage = data => setTimeout(() => this.answer(data));
      const script = this.inner.document.createElement("script");
      script.src = url;
      script.onload = () => { this.waiting.splice(0).forEach(data => this.ask(data)); this.waiting = null; };
      script.onerror = () => this.onerror?.(new ErrorEvent("error"));
      this.inner.document.body.append(script);
    }

    answer(data) {
      const event = new MessageEvent("message", {data});
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }

    ask(data) { this.inner.dispatchEvent(new MessageEvent("message", {data})); }

    postMessage(data) { this.waiting ? this.waiting.push(data) : this.ask(data); }

    terminate() { this.frame.remove(); }
  };
}
