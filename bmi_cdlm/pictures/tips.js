// The box of words beside the mouse.

const TIP_RIGHT = 14,
  TIP_LEFT = 10,
  TIP_BELOW = 10;

/** Where a box goes that is so large, beside a point of a canvas: to the left where it would leave it on the right. */
function tipPlace(x, y, width, height, canvasWidth, canvasHeight) {
  const right = x + TIP_RIGHT,
    left = right + width > canvasWidth ? x - width - TIP_LEFT : right;
  return [Math.max(0, left), Math.max(0, Math.min(y + TIP_BELOW, canvasHeight - height))];
}

/** Show words in the box, beside the mouse. */
function showTip(tip, canvas, e, text) {
  tip.textContent = text;
  tip.style.display = "block";
  const size = [tip.offsetWidth, tip.offsetHeight, canvas.clientWidth, canvas.clientHeight];
  const [left, top] = tipPlace(e.offsetX, e.offsetY, ...size);
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}
