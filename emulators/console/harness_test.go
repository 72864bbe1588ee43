package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

// chromium is the one browser of all tests; each has profiles of its own in it.
var chromium struct {
	start sync.Once
	ctx   context.Context //nolint:containedctx // the browser is in it, as chromedp has it
	err   error
	stop  func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

// startBrowser returns the context of the browser.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program := partstest.Chromium(t)
	chromium.start.Do(func() {
		options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
			chromedp.ExecPath(program), chromedp.NoSandbox, // which root cannot have; pages are our own
			chromedp.DisableGPU, chromedp.Flag("font-render-hinting", "none"),
			chromedp.Flag("force-prefers-reduced-motion", true), // a spinner that is drawn takes half a core
		)
		ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, cancel := chromedp.NewContext(ctx)
		chromium.ctx, chromium.stop = ctx, func() {
			_ = chromedp.Cancel(ctx) // it ends with this process in any case
			cancel()
			end()
		}
		chromium.err = chromedp.Do(ctx)
	})
	if chromium.err != nil {
		t.Fatalf("the browser did not start: %v", chromium.err)
	}
	return chromium.ctx
}

// patience is how long a page may take until what is waited for is seen.
const patience = 45 * time.Second

// local is a running stack.
type local struct {
	*stack.Stack
	t *testing.T
}

// start starts a stack whose Google takes no time, with a check of permissions
// every second.
func start(t *testing.T, s *google.Scenario, environment map[string]string) *local {
	t.Helper()
	variables := map[string]string{"VERIFY_INTERVAL": "1s", "OPERATION_GRACE": "0s"}
	for name, value := range environment {
		variables[name] = value
	}
	started, err := stack.Start(t.Context(), stack.Options{Scenario: s, Environment: variables})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &local{started, t}
}

// A page is a tab of a browser, as somebody sees and uses it.
type page struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // the tab is in it, as chromedp has it
	url string          // of the console
	// size is that of the screen.
	size emulation.SetDeviceMetricsOverrideParams

	mu     sync.Mutex
	faults []string // what the browser complained about
}

// hurry makes long waits in the page ten times shorter: polls are then every
// half second. What short waits there are stays.
const hurry = `{
	const real = window.setTimeout;
	window.setTimeout = (act, ms, ...rest) => real(act, ms >= 2000 ? ms / 10 : ms, ...rest);
}`

// profile opens a tab in a new profile: nothing is shared with any other.
func (l *local) profile() *page {
	l.t.Helper()
	ctx, cancel := chromedp.NewContext(startBrowser(l.t), chromedp.WithNewBrowserContext())
	l.t.Cleanup(cancel)
	return l.open(ctx)
}

// tab opens another tab in the page's profile.
func (l *local) tab(p *page) *page {
	l.t.Helper()
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithExistingBrowserContext(chromedp.FromContext(p.ctx).BrowserContextID))
	l.t.Cleanup(cancel)
	return l.open(ctx)
}

func (l *local) open(ctx context.Context) *page {
	l.t.Helper()
	p := &page{t: l.t, ctx: ctx, url: l.URL + "/"}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		l.t.Fatal(err)
	}
	call(p, log.Enable, cdp.Empty{})
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(p, cdpage.AddScriptToEvaluateOnNewDocument, cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: hurry})
	p.desktop("light")
	l.t.Cleanup(p.check)
	return p
}

// hear notes what the browser complains about.
func (p *page) hear(event any) {
	var fault string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error()
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork { // answers that are errors are the functions' own
			fault = string(e.Entry.Source) + ": " + e.Entry.Text
		}
	}
	if fault != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, fault)
	}
}

// call runs a command of the browser's protocol.
func call[P, R any](p *page, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// check fails if the browser complained: about a script, or about what the
// Content-Security-Policy forbids.
func (p *page) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range p.faults {
		p.t.Errorf("the browser says: %s", fault)
	}
}

// do runs actions of chromedp.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// desktop shows the page on a desk, in light or dark.
func (p *page) desktop(scheme string) {
	p.t.Helper()
	p.screen(emulation.SetDeviceMetricsOverrideParams{Width: 1280, Height: 860, DeviceScaleFactor: 1}, scheme)
}

// phone shows the page on a phone.
func (p *page) phone() {
	p.t.Helper()
	p.screen(emulation.SetDeviceMetricsOverrideParams{Width: 390, Height: 844, DeviceScaleFactor: 2, Mobile: true}, "light")
}

func (p *page) screen(size emulation.SetDeviceMetricsOverrideParams, scheme string) {
	p.t.Helper()
	p.size = size
	call(p, emulation.SetDeviceMetricsOverride, size)
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// visit goes to an address of the console, such as "#/connect" or "?login=x".
func (p *page) visit(address string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.url + address))
}

// value is what an expression, which may be a promise, comes to.
func value[T any](p *page, expression string) (T, error) {
	return chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true.
func (p *page) until(what, expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		is, err := value[bool](p, "(async () => Boolean(await ("+expression+")))()")
		if is {
			return
		}
		if time.Now().After(deadline) {
			shown, _ := value[string](p, "document.body.innerText")
			at, _ := value[string](p, "location.href")
			p.picture("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(p.t.Name()))
			p.t.Fatalf("%s is not so (%v); at %s is shown:\n%s", what, err, at, shown)
		}
		select { // a page that is being left answers with an error: it is asked again
		case <-p.t.Context().Done():
			p.t.Fatal(p.t.Context().Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// see waits until texts are shown.
func (p *page) see(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("that %q is shown", text), "document.body.innerText.replace(/\\s+/g, ' ').includes("+quoted(text)+")")
	}
}

// seeNot fails if a text is shown now.
func (p *page) seeNot(text string) {
	p.t.Helper()
	if is, err := value[bool](p, "document.body.innerText.includes("+quoted(text)+")"); err != nil || is {
		p.t.Errorf("%q is shown, or %v", text, err)
	}
}

// at waits until the console is at a view.
func (p *page) at(view string) {
	p.t.Helper()
	p.until("to be at "+view, "location.hash.startsWith("+quoted("#/"+view)+") && location.search === ''")
}

// control is an expression for what has that accessible name, or else begins
// with it, and can be used: a button, a link, a field.
func control(name string) string {
	return `(() => {
		const names = [...document.querySelectorAll('button, a[href], input, select, summary')].filter(e => !e.disabled && e.checkVisibility()).map(e => [e,
			(e.getAttribute('aria-label') ?? (e.labels?.length && e.localName !== 'button' ? e.labels[0].innerText : e.innerText || e.value)).replace(/\s+/g, ' ').trim()]);
		const wanted = ` + quoted(name) + `;
		return (names.find(([, name]) => name === wanted) ?? names.find(([, name]) => name.startsWith(wanted)))?.[0];
	})()`
}

// press clicks on a control with the mouse.
func (p *page) press(name string) {
	p.t.Helper()
	// It must be where it is clicked: not below something else, and not moving.
	p.until("that "+name+" can be pressed", `(async () => {
		const control = `+control(name)+`;
		if (!control) return false;
		control.scrollIntoView({block: 'center', behavior: 'instant'});
		const before = control.getBoundingClientRect();
		await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
		const box = control.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
		const hit = document.elementFromPoint(x, y);
		window.spot = {X: x, Y: y};
		return box.x === before.x && box.y === before.y && hit && (control.contains(hit) || hit.closest('label')?.control === control);
	})()`)
	spot, err := value[struct{ X, Y float64 }](p, "window.spot")
	if err != nil {
		p.t.Fatal(err)
	}
	p.do(chromedp.MouseClickXY(spot.X, spot.Y))
}

// write types into a field in place of what is there.
func (p *page) write(field, text string) {
	p.t.Helper()
	p.until("that there is a field "+field, "(() => { const field = "+control(field)+"; field?.focus(); field?.select?.(); return field; })()")
	p.do(chromedp.KeyEvent(text + ""))
	if text == "" {
		p.do(chromedp.KeyEvent(kb.Backspace))
	}
}

// choose chooses an option of a select by its value.
func (p *page) choose(field, value string) {
	p.t.Helper()
	p.until("that "+value+" can be chosen", `(() => {
		const field = `+control(field)+`;
		if (![...field?.options ?? []].some(option => option.value === `+quoted(value)+`)) return false;
		field.value = `+quoted(value)+`;
		field.dispatchEvent(new Event('change', {bubbles: true}));
		return true;
	})()`)
}

// key presses keys on whatever has the focus.
func (p *page) key(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.do(chromedp.KeyEvent(k))
	}
}

// tabTo moves the focus by the Tab key alone until it is on a control.
func (p *page) tabTo(name string) {
	p.t.Helper()
	p.until("that there is "+name, control(name))
	for range 80 {
		p.key(kb.Tab)
		there, err := value[bool](p, "document.activeElement === "+control(name))
		if err != nil {
			p.t.Fatal(err)
		}
		if there {
			return
		}
	}
	p.t.Fatalf("%s is not reached by the Tab key", name)
}

// consent is what a user does on Google's page: unticks scopes, then presses.
func (p *page) consent(press string, without ...string) {
	p.t.Helper()
	p.see("wants access to your Google Account")
	for _, scope := range without {
		p.do(chromedp.Click(chromedp.CSS(`input[value="` + scope + `"]`)))
	}
	p.press(press)
}

// connect connects from the first view to the setup's, or where that leads.
func (p *page) connect() {
	p.t.Helper()
	p.visit("")
	p.press("Connect GCP")
	p.consent("Allow")
	p.until("to be back", `/^#\/(setup|projects)/.test(location.hash)`)
}

// kept is what the page has in the browser's storage.
func (p *page) kept() map[string]string {
	p.t.Helper()
	kept, err := value[struct {
		Local   map[string]string
		Session int
		Cookie  string
	}](p, "({Local: {...localStorage}, Session: sessionStorage.length, Cookie: document.cookie})")
	if err != nil || kept.Session != 0 || kept.Cookie != "" {
		p.t.Errorf("there are %d items in the session's storage, and cookies %q (%v)", kept.Session, kept.Cookie, err)
	}
	return kept.Local
}

// quoted is text in JavaScript.
func quoted(text any) string {
	encoded, _ := json.Marshal(text) // of strings it cannot fail
	return string(encoded)
}

// album is the folder for pictures; "" if none are taken.
func album() string {
	return os.Getenv("SCREENSHOTS") //nolint:forbidigo // of the test run, not of the program
}

// picture keeps a picture of the whole page, on a screen that is as high as it
// is: what sticks to the screen's edge is then where the page ends.
func (p *page) picture(name string) {
	p.t.Helper()
	if album() == "" {
		return
	}
	height, err := value[float64](p, "document.documentElement.scrollHeight")
	if err == nil && height > float64(p.size.Height) {
		whole := p.size
		whole.Height = min(int64(height), 4000)
		_, err = chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, whole)
	}
	var image []byte
	if err == nil {
		image, err = chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	}
	if err == nil {
		_, err = chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, p.size)
	}
	if err == nil {
		err = os.MkdirAll(album(), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(album(), name+".png"), image, 0o644)
	}
	if err != nil {
		p.t.Errorf("picture %s: %v", name, err)
	}
}

// axe is the accessibility checker.
var axe = sync.OnceValues(func() ([]byte, error) {
	return os.ReadFile(filepath.Join("testdata", "axe-core", "axe.min.js"))
})

// accessible fails for everything that axe finds wrong with the page as it is;
// with names of rules, for what they find.
func (p *page) accessible(view string, rules ...string) {
	p.t.Helper()
	script, err := axe()
	if err != nil {
		p.t.Fatal(err)
	}
	if there, _ := value[bool](p, "Boolean(window.axe)"); !there {
		p.do(chromedp.Evaluate[chromedp.Void](string(script)))
	}
	only := ""
	if len(rules) > 0 {
		only = "runOnly: " + quoted(rules)
	}
	found, err := value[[]struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}](p, "axe.run(document, {resultTypes: ['violations'], "+only+"}).then(results => results.violations)")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, violation := range found {
		for _, node := range violation.Nodes {
			p.t.Errorf("%s: %s (%s, %s)\n%s\n%s", view, violation.Help, violation.ID, violation.Impact, node.HTML, node.FailureSummary)
		}
	}
}

// still waits until the page looks as it will: its fonts are there, and nothing
// moves but what turns while something is waited for.
func (p *page) still() {
	p.t.Helper()
	p.until("that the page is still", "document.fonts.status === 'loaded' && document.getAnimations().every(a => a.effect.getComputedTiming().iterations === Infinity || a.playState !== 'running')")
}

// portray checks the view that is shown, and keeps pictures of it: in light and
// in dark, and at a phone's width, where nothing may stick out.
func (p *page) portray(view string) {
	p.t.Helper()
	p.still()
	p.accessible(view)
	p.picture(view + "-light")
	p.desktop("dark")
	p.still()
	p.accessible(view+", dark", "color-contrast")
	p.picture(view + "-dark")
	p.phone()
	p.still()
	if wide, err := value[float64](p, "document.documentElement.scrollWidth - innerWidth"); err != nil || wide > 0 {
		p.t.Errorf("%s: at a phone's width %v pixels stick out, or %v", view, wide, err)
	}
	p.accessible(view + ", phone")
	p.picture(view + "-phone")
	p.desktop("light")
}
