// Package console is the demonstration frontend: what a user of Aurora sees of
// Google Cloud, from the first explanation to the last undone change, and the
// reference for who writes another one. It is static files, embedded, that call
// the functions as the HTTP contract says; web/api.js is that contract.
//
// Start reading at web/main.js. A view is a file under web/views.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed web/*.* web/views web/vendor web/fonts
var files embed.FS

// policy is the Content-Security-Policy of the page: everything comes from its
// own origin, nothing is written into it as text, and nobody frames it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Handler serves the page at / and what belongs to it under /console/.
func Handler() http.Handler {
	mux := http.NewServeMux()
	root, err := fs.Sub(files, "web")
	if err != nil {
		panic(err) // the name is a constant above
	}
	mux.Handle("GET /{$}", file(root, "index.html"))
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			mux.Handle("GET /console/"+name, file(root, name))
		}
		return err
	})
	if err != nil {
		panic(err) // of files that are part of the program
	}
	return mux
}

// types are of the endings that machines know differently, or not.
var types = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
	".svg": "image/svg+xml", ".woff2": "font/woff2", ".md": "text/plain; charset=utf-8",
}

// file serves one file. Browsers keep it, and ask each time whether it is still
// the same.
func file(root fs.FS, name string) http.Handler {
	content, err := fs.ReadFile(root, name)
	if err != nil {
		panic(err) // of files that are part of the program
	}
	sum := sha256.Sum256(content)
	tag := fmt.Sprintf("%q", hex.EncodeToString(sum[:8]))
	media := types[path.Ext(name)]
	if media == "" {
		media = mime.TypeByExtension(".txt")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", media)
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Referrer-Policy", "no-referrer") // addresses here have task IDs
		h.Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}
