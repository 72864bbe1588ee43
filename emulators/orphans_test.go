package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gcpconnect/emulators/parts/partstest"
)

// However the program ends, by Ctrl-C or by kill -9: what it started ends too.
func TestNothingIsLeftRunning(t *testing.T) {
	t.Parallel()
	partstest.RequireFirestore(t)
	program := filepath.Join(t.TempDir(), "emulators")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		cmd := exec.CommandContext(t.Context(), program, "-listen", "127.0.0.1:0", "-google", "127.0.0.1:0", "-backends", "real", "-logs", t.TempDir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addresses := map[string]string{}
		for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "Press"); {
			name, address, _ := strings.Cut(lines.Text(), "  ")
			addresses[name] = strings.TrimPrefix(strings.TrimSpace(address), "http://")
		}
		for _, name := range []string{"Functions", "Firestore", "Vault", "Cloud Tasks"} {
			if addresses[name] == "" {
				t.Errorf("the program does not say where %s is: %v", name, addresses)
			}
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		if signal == syscall.SIGINT && err != nil {
			t.Errorf("after Ctrl-C the program ended with %v", err)
		}
		delete(addresses, "Logs")
		for name, address := range addresses {
			if !closes(t, address) {
				t.Errorf("after %v %s still serves", signal, name)
			}
		}
	}
}

// closes reports whether nobody listens at an address, soon.
func closes(t *testing.T, address string) bool {
	t.Helper()
	for range 100 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return true
		}
		_ = conn.Close()
		time.Sleep(100 * time.Millisecond)
	}
	return false
}
