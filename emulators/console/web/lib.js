// The one library of the console: Preact with templates instead of JSX, so that
// there is nothing to build. Everything else imports it from here.
import {h, render, Fragment} from './vendor/preact.js';
import htm from './vendor/htm.js';

export const html = htm.bind(h);
export {render, Fragment};
export {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from './vendor/hooks.js';
