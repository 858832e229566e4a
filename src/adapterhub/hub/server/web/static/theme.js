// The colours that were chosen before are there before the page is drawn.
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* a browser that keeps nothing has the colours of the system */ }
document.documentElement.classList.add("js");
