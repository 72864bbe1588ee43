package parts

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Firestore is a running Firestore emulator.
type Firestore struct {
	// Address is its host:port, the value for FIRESTORE_EMULATOR_HOST.
	Address string
	process *process
}

// emulatorProgram finds what `gcloud emulators firestore start` runs. It is
// run directly, with the same arguments, because gcloud puts it out of reach:
// into a process group of its own, where it stays when gcloud is killed.
func emulatorProgram() (string, error) {
	gcloud, err := exec.LookPath("gcloud")
	if err == nil {
		gcloud, err = filepath.EvalSymlinks(gcloud)
	}
	if err != nil {
		return "", &MissingError{"gcloud", "see https://cloud.google.com/sdk/docs/install, then: gcloud components install cloud-firestore-emulator"}
	}
	program := filepath.Join(filepath.Dir(gcloud), "..", "platform", "cloud-firestore-emulator", "cloud_firestore_emulator")
	if _, err := os.Stat(program); err != nil {
		return "", &MissingError{"the Firestore emulator", "gcloud components install cloud-firestore-emulator (or: apt-get install -y google-cloud-cli-firestore-emulator)"}
	}
	if _, err := exec.LookPath("java"); err != nil {
		return "", &MissingError{"java", "apt-get install -y default-jre-headless"}
	}
	return program, nil
}

// CheckFirestore returns a MissingError if the emulator is not installed.
func CheckFirestore() error {
	_, err := emulatorProgram()
	return err
}

// StartFirestore starts a Firestore emulator at an address, a free one if that
// is empty, with its log in a folder. Its data are in memory: they end with it.
func StartFirestore(ctx context.Context, address, logs string) (*Firestore, error) {
	program, err := emulatorProgram()
	if err != nil {
		return nil, err
	}
	if address != "" {
		return startFirestore(ctx, program, address, logs)
	}
	return atFreeAddress(ctx, func(address string) (*Firestore, error) { return startFirestore(ctx, program, address, logs) })
}

// startFirestore starts the program at an address.
func startFirestore(ctx context.Context, program, address, logs string) (*Firestore, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address of the Firestore emulator: %w", err)
	}
	p, err := start("firestore", logs, nil, nil, program, "start", "--host="+host, "--port="+port, "--database-mode=firestore-native")
	if err != nil {
		return nil, err
	}
	f := &Firestore{Address: address, process: p}
	if err := p.await(ctx, f.healthy); err != nil {
		_ = p.stop() // the error says what was wrong
		return nil, err
	}
	return f, nil
}

// healthy asks the emulator whether it serves.
func (f *Firestore) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.Address+"/", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || strings.TrimSpace(string(answer)) != "Ok" {
		return fmt.Errorf("it answers %d %q", resp.StatusCode, answer)
	}
	return f.warm(ctx)
}

// warm writes a document and deletes it with its project. The first write of a JVM
// takes seconds on a busy machine: they belong to the start, and not into the 10 s
// that a caller of the database waits.
func (f *Firestore) warm(ctx context.Context) error {
	documents := "http://" + f.Address + "/v1/projects/warm-up/databases/(default)/documents"
	for _, call := range []struct{ method, url, body string }{
		{http.MethodPost, documents + "/d", `{"fields":{"f":{"integerValue":"1"}}}`},
		{http.MethodPost, documents + ":runQuery", `{"structuredQuery":{"from":[{"collectionId":"d"}]}}`},
		{http.MethodDelete, "http://" + f.Address + "/emulator/v1/projects/warm-up/databases/(default)/documents", ""},
	} {
		req, err := http.NewRequestWithContext(ctx, call.method, call.url, strings.NewReader(call.body))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s answers %d, %v", call.method, call.url, resp.StatusCode, err) //nolint:errorlint // err may be nil
		}
	}
	return nil
}

// Stop stops the emulator.
func (f *Firestore) Stop() error { return f.process.stop() }

// Pause stops the emulator's process where it is: its clients get no answer.
// Continue lets it go on with all that it had.
func (f *Firestore) Pause() error { return f.process.signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (f *Firestore) Continue() error { return f.process.signal(syscall.SIGCONT) }
