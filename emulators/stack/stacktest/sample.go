package stacktest

import (
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing"
)

var (
	fullFlag = flag.Bool("full", false, "run every case that is sampled otherwise")
	seedFlag = flag.Uint64("seed", 0, "seed of what is sampled; 0: a new one")
)

// Full reports whether every case is to be run.
func Full() bool { return *fullFlag }

// Seed returns the seed of the test process. It is random unless -seed is given.
// Call it after flags are parsed.
var Seed = sync.OnceValue(func() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return uint64(rand.Uint32()) + 1 //nolint:gosec // a choice of cases; short enough to be typed
})

// Sample returns n of the cases, chosen by the seed and the name of the test, or
// with -full all of them. It logs the seed. The order of the cases is kept.
func Sample[T any](t testing.TB, cases []T, n int) []T {
	t.Helper()
	if Full() || n >= len(cases) {
		return cases
	}
	t.Logf("%d of %d cases, sampled by -seed=%d; all of them with -full", n, len(cases), Seed())
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name()))                   // never fails
	chance := rand.New(rand.NewPCG(Seed(), name.Sum64())) //nolint:gosec // a choice that is repeated from its seed
	chosen := make(map[int]bool, n)
	for _, i := range chance.Perm(len(cases))[:n] {
		chosen[i] = true
	}
	var sample []T
	for i, c := range cases {
		if chosen[i] {
			sample = append(sample, c)
		}
	}
	return sample
}

// SetFlags sets flags of the test process that were not given. Call it in
// TestMain after flags are parsed.
func SetFlags(values map[string]string) {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range values {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}
