// What the browser remembers between visits: who is using Aurora, the setup
// that they look at, and light or dark. Nothing secret: tokens never reach this
// page, and the cookie that binds a login is out of reach of scripts.

function read(key) {
  try {
    return localStorage.getItem('aurora.' + key);
  } catch { // storage is switched off: what is remembered lasts as long as the page
    return null;
  }
}

function write(key, value) {
  try {
    if (value) localStorage.setItem('aurora.' + key, value);
    else localStorage.removeItem('aurora.' + key);
  } catch { /* likewise */ }
}

const memory = {user: read('user') || 'me', task: read('task'), theme: read('theme')};

export const session = {
  /** The user's ID at Aurora. Behind a real frontend it is its login's; with AUTH=local this is believed. */
  get user() { return memory.user; },
  set user(id) {
    if (id === memory.user) return;
    write('user', memory.user = id);
    session.task = null; // another user's setups are not theirs
  },

  /** The ID of the newest setup that this browser started. */
  get task() { return memory.task; },
  set task(id) { write('task', memory.task = id); },

  /** 'light', 'dark', or null for what the system prefers. */
  get theme() { return memory.theme; },
  set theme(theme) { write('theme', memory.theme = theme); },
};
