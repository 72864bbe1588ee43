// Package parts runs the real services that the system is for on one machine:
// Google's Firestore emulator and HashiCorp's Vault, each as a process of its
// own.
//
// A part that is started is ready to use, has its output in a log file, and
// ends with the process that started it, however that ends: nothing is left behind
// after Ctrl-C, a panic or a kill -9.
package parts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a part may take to become ready.
	startTimeout = time.Minute
	// stopTimeout is how long a part has to end by itself.
	stopTimeout = 5 * time.Second
)

// MissingError says that a program is not installed, and the command that
// installs it.
type MissingError struct{ Program, Install string }

func (m *MissingError) Error() string {
	return fmt.Sprintf("%s is not installed: %s", m.Program, m.Install)
}

// leash runs its arguments as a command and ends it when its own standard
// input ends, which is when the process with the other end has ended. Then, and
// when the command ends by itself, nothing of the process group stays.
const leash = `exec 3<&0
"$@" 3<&- </dev/null &
child=$!
( cat <&3 >/dev/null; kill -TERM $child; sleep 3; kill -KILL 0 ) >/dev/null 2>&1 &
wait $child
kill -KILL 0`

// process is a running part.
type process struct {
	name  string
	cmd   *exec.Cmd
	hold  io.Closer // the other end of the leash
	log   string    // file
	ended chan struct{}
}

// start starts a program, with its output in a file of its name in dir; its
// standard output goes to stdout instead, unless that is nil. Variables are added to
// the environment of this process.
func start(name, dir string, stdout *os.File, variables []string, program string, args ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: make the folder of its log: %w", name, err)
	}
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("%s: make its log: %w", name, err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	// The process outlives whatever asked for it; stop ends it.
	cmd := exec.CommandContext(context.Background(), "/bin/sh", append([]string{"-c", leash, name, program}, args...)...) //nolint:gosec // programs that this package names
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), variables...)
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through us
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s does not start: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, hold: hold, log: log.Name(), ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	return p, nil
}

// stop ends the process and all that it started. Stopping twice is no error.
func (p *process) stop() error {
	_ = p.hold.Close()
	_ = p.signal(syscall.SIGCONT) // one that is paused ends too
	deadline := time.Now().Add(stopTimeout)
	for {
		switch err := syscall.Kill(-p.cmd.Process.Pid, 0); {
		case errors.Is(err, syscall.ESRCH):
			return nil
		case err != nil && !errors.Is(err, syscall.EPERM):
			return fmt.Errorf("stop %s: %w", p.name, err)
		case time.Now().After(deadline.Add(time.Second)):
			return nil // killed; who should take note of it does not, and the group stays as a name
		case time.Now().After(deadline):
			_ = p.signal(syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// signal sends a signal to the process and to all that it started.
func (p *process) signal(s syscall.Signal) error {
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// await calls ready until it succeeds. When the process ends before, or takes
// too long, the error has the end of its log.
func (p *process) await(ctx context.Context, ready func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s %w; its log %s ends with:\n%s", p.name, errEnded, p.log, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log %s ends with:\n%s", p.name, err, p.log, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail returns the last lines of the log.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

var errEnded = errors.New("ended at once")

// atFreeAddress starts a program at an address that is free. Another program may
// take that before this one does, which takes a second to begin: one that ends at
// once is started at another.
func atFreeAddress[T any](ctx context.Context, begin func(address string) (T, error)) (T, error) {
	for tries := 1; ; tries++ {
		address, err := freeAddress(ctx)
		if err != nil {
			return *new(T), err
		}
		begun, err := begin(address)
		if tries == 3 || !errors.Is(err, errEnded) {
			return begun, err
		}
	}
}

// freeAddress returns an address on loopback that nobody listens on, for
// programs that cannot choose by themselves.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
