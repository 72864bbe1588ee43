// Asking politely how far a setup is: every 5 s and at most 360 times, as the
// contract has it; every 30 s in a tab that nobody sees; and after a failure
// less and less often, but never earlier than the server asked for.

import {useEffect, useRef, useState} from './lib.js';
import * as api from './api.js';

export const INTERVAL = 5000;
export const HIDDEN_INTERVAL = 30000;
export const MOST = 360;
const LONGEST = 60000;

/** How many milliseconds to wait before asking again. */
export function wait({hidden = false, failures = 0, retryAfter = 0} = {}) {
  const usual = hidden ? HIDDEN_INTERVAL : INTERVAL;
  if (!failures) return usual;
  return Math.max(usual, retryAfter * 1000, Math.min(INTERVAL * 2 ** (failures - 1), LONGEST));
}

/**
 * Polls until the task is complete.
 * @returns {{status: ?object, error: ?api.ApiError, gaveUp: boolean, again: function}}
 *   error while the last poll failed, or for good where it cannot work later.
 */
export function useStatus(task) {
  const [state, set] = useState({status: null, error: null, gaveUp: false});
  const [round, setRound] = useState(0); // a new one begins the count anew
  const polls = useRef(0);
  useEffect(() => {
    let timer, failures = 0, due = 0;
    const leave = new AbortController();
    polls.current = 0;
    set(before => ({...before, error: null, gaveUp: false}));

    const later = ms => {
      clearTimeout(timer);
      due = Date.now() + ms;
      timer = setTimeout(poll, ms);
    };
    async function poll() {
      due = 0;
      polls.current++;
      try {
        const status = await api.status(task, leave.signal);
        failures = 0;
        set({status, error: null, gaveUp: false});
        if (status.complete) return;
        later(wait({hidden: document.hidden}));
      } catch (error) {
        if (leave.signal.aborted) return;
        set(before => ({...before, error}));
        if (!error.passing) return;
        failures++;
        later(wait({hidden: document.hidden, failures, retryAfter: error.retryAfter}));
      }
      if (polls.current >= MOST) {
        clearTimeout(timer);
        due = 0;
        set(before => ({...before, gaveUp: true}));
      }
    }
    // A tab that is looked at again does not show what was half a minute ago.
    const seen = () => {
      if (!document.hidden && due > Date.now() + INTERVAL && !failures) later(0);
    };
    document.addEventListener('visibilitychange', seen);
    poll();
    return () => {
      leave.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
    };
  }, [task, round]);
  return {...state, again: () => setRound(n => n + 1)};
}
