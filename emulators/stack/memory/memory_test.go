// Package memory_test tests the whole system in memory, on a virtual clock: no
// process beside the test, and no test that waits for the wall clock.
package memory_test

import (
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
)

const owner = googletest.Owner

func one() *google.Scenario { return googletest.Scenario(1) }
