package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The programs that are measured. Those in testdata are what the product is compared with.
const (
	productProgram = "gcpconnect/functions/cmd/gcpconnect"
	helloProgram   = "gcpconnect/emulators/bench/testdata/hello"
	linkedProgram  = "gcpconnect/emulators/bench/testdata/linked"
	bareProgram    = "gcpconnect/emulators/bench/testdata/bare"
	callsProgram   = "gcpconnect/emulators/bench/testdata/calls"
)

// build builds a program with the settings of the image, once, and returns its file.
func (b *bench) build(ctx context.Context, pkg string) (string, error) {
	if program, ok := b.programs[pkg]; ok {
		return program, nil
	}
	program := filepath.Join(b.dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, //nolint:gosec // packages that this file names
		"go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s (run this inside the repository): %w\n%s", pkg, err, out)
	}
	b.programs[pkg] = program
	return program, nil
}

// server is a running program that serves HTTP.
type server struct {
	cmd   *exec.Cmd
	url   string
	start time.Duration // from exec to the first answer
	logs  bytes.Buffer
}

// serve starts a program and sends requests to it until it answers.
func (b *bench) serve(
	ctx context.Context, program string, environment map[string]string,
) (*server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + address}
	// stop ends the program, also after ctx has ended.
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), program)
	s.cmd.Env, s.cmd.Stderr = []string{"PORT=" + port, "HOME=" + b.dir}, &s.logs
	for name, value := range environment {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	for {
		err := answers(ctx, address)
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Since(began) > time.Minute {
			s.stop()
			return nil, fmt.Errorf("%s does not answer: %w\n%s", program, err, s.logs.String())
		}
		time.Sleep(200 * time.Microsecond)
	}
	s.start = time.Since(began)
	return s, nil
}

// answers returns nil if a server answers HTTP at an address. It is plainer than an HTTP client,
// whose own time would be part of a cold start.
func answers(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len("HTTP/1.1 200")))
	return err
}

// stop kills the program.
func (s *server) stop() {
	_ = s.cmd.Process.Kill() // fails if it has exited
	_ = s.cmd.Wait()         // returns that it was killed
}

// usage returns the processor time that the program has used and the bytes of memory that it holds
// (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
func (s *server) usage() (cpu time.Duration, resident int64, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the usage of a program: %w", err)
	}
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0, errors.New("read the usage of a program: /proc has an unknown format")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	const ticks = 100 // a second, on Linux
	cpu = time.Duration(user+system) * time.Second / ticks
	return cpu, pages * int64(os.Getpagesize()), errors.Join(err1, err2, err3)
}
