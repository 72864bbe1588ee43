package google

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"sort"
	"strconv"
)

// A pageToken says where the next page begins: after a key, not at an offset,
// so that what comes or goes meanwhile shifts nothing.
type pageToken struct {
	After string `json:"a"`
	Empty bool   `json:"e,omitempty"` // the page before was empty
	MAC   []byte `json:"m"`
}

// page picks one page of the items with the given sorted keys. bound is what
// must be the same on every page's request, such as a filter. Tokens that were
// altered or belong to another list are refused.
func (c *call) page(keys []string, standard, limit int, bound string) (from, to int, next string, refusal *apiError) {
	size, refusal := c.pageSize(standard, limit)
	if refusal != nil {
		return 0, 0, "", refusal
	}
	pages := c.world.scenario.Pages
	var token pageToken
	if text := c.r.URL.Query().Get("pageToken"); text != "" {
		token = readPageToken(text)
		// Neither base64 nor JSON has one form only, so the text is compared
		// too: else some altered tokens would be as good as the true one.
		if token.text() != text || !hmac.Equal(token.MAC, c.pageMAC(token, bound)) {
			return 0, 0, "", invalid("Request contains an invalid argument.").with(fieldViolation("page_token", "The page token is not valid."))
		}
		from = sort.Search(len(keys), func(i int) bool { return keys[i] > token.After })
	}
	if pages.Short {
		h := fnv.New64a()
		h.Write(eightBytes(c.seed))
		h.Write([]byte(c.m.name + token.After))
		if sum := h.Sum64(); sum%4 == 0 && !token.Empty { // never two in a row, so that it ends
			size = 0
		} else {
			size = 1 + int(sum/4%uint64(size)) //nolint:gosec // a page is small and positive
		}
	}
	to = min(from+size, len(keys))
	if to == len(keys) {
		return from, to, "", nil
	}
	following := pageToken{After: token.After, Empty: from == to}
	if to > from {
		following.After = keys[to-1]
	}
	following.MAC = c.pageMAC(following, bound)
	return from, to, following.text(), nil
}

func (t pageToken) text() string {
	encoded, _ := json.Marshal(t) // always encodes
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// readPageToken gives the zero token for what is none.
func readPageToken(text string) (t pageToken) {
	if data, err := base64.RawURLEncoding.DecodeString(text); err != nil || json.Unmarshal(data, &t) != nil {
		return pageToken{}
	}
	return t
}

// pageSize is how many items a page has at most.
func (c *call) pageSize(standard, limit int) (int, *apiError) {
	size := standard
	switch n, _ := strconv.Atoi(c.r.URL.Query().Get("pageSize")); { // a number, or nothing
	case n > 0:
		size = n
	case n < 0 && c.m.api != assetAPI: // which takes it for 0
		return 0, invalid("Request contains an invalid argument.")
	}
	size = min(size, limit)
	if most := c.world.scenario.Pages.Size; most > 0 {
		size = min(size, most)
	}
	return size, nil
}

// pageAfter is where the page begins, if the token is good: page checks that.
func (c *call) pageAfter() string {
	return readPageToken(c.r.URL.Query().Get("pageToken")).After
}

func (c *call) pageMAC(t pageToken, bound string) []byte {
	mac := hmac.New(sha256.New, eightBytes(c.seed))
	encoded, _ := json.Marshal([]any{c.m.name, c.projectID(), bound, t.After, t.Empty})
	mac.Write(encoded)
	return mac.Sum(nil)[:12]
}
