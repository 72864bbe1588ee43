package connecttest

import (
	"testing"

	"gcpconnect/shared/connect"
)

// fetch reads one page of a list.
type fetch[T any] func(token string) (page []T, next string, err error)

// allPages reads a list to its end and checks its pages: none larger than
// size, and none empty but that of an empty list.
func allPages[T any](t *testing.T, size int, read fetch[T]) []T {
	t.Helper()
	var all []T
	seen := map[string]bool{}
	for token, n := "", 1; ; n++ {
		page, next, err := read(token)
		if err != nil {
			t.Fatalf("page %d: %v", n, err)
		}
		if len(page) > size {
			t.Fatalf("page %d has %d entries, more than the %d asked for", n, len(page), size)
		}
		if len(page) == 0 && (next != "" || n > 1) {
			t.Fatalf("page %d is empty: the token before it should have been empty", n)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		if seen[next] {
			t.Fatalf("page %d leads back to a page before", n)
		}
		seen[next] = true
		token = next
	}
}

// refusesBadPages checks what a list says to page sizes and tokens that it
// must not take. read reads a page of a list that has several.
func refusesBadPages(t *testing.T, read func(size int, token string) (next string, err error)) {
	t.Helper()
	for _, size := range []int{-1, 1001} {
		_, err := read(size, "")
		wantCode(t, "reading a page of an impossible size", err, connect.Invalid)
		wantMessage(t, err, "page_size")
	}
	next, err := read(1, "")
	ok(t, err)
	if next == "" {
		t.Fatal("the list has one page only")
	}
	for _, token := range []string{"!", "1", "bm9uc2Vuc2U", "e30", "eyJJRCI6MX0", next[:len(next)/2], next + "!", "../" + next} {
		_, err := read(1, token)
		wantCode(t, "reading the page of token "+token, err, connect.Invalid)
		wantMessage(t, err, "page_token")
	}
}
