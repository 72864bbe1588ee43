package parts

import (
	"context"
	"net"
)

// CloudTasks is a running Cloud Tasks emulator of other authors
// (https://github.com/aertje/cloud-tasks-emulator): an outside opinion on how
// our client speaks. The one that the stack uses is emulators/tasks.
type CloudTasks struct {
	// Address is its host:port, the value for CLOUD_TASKS_EMULATOR_HOST.
	Address string
	process *process
}

// StartCloudTasks starts that emulator with a queue, by its full name, at a
// free address, with its log in a folder.
func StartCloudTasks(ctx context.Context, queue, logs string) (*CloudTasks, error) {
	source, err := sourceOf(ctx, ".tools/cloud-tasks-emulator")
	if err != nil {
		return nil, err
	}
	program, err := build(ctx, source, "github.com/aertje/cloud-tasks-emulator")
	if err != nil {
		return nil, err
	}
	return atFreeAddress(ctx, func(address string) (*CloudTasks, error) { return startCloudTasks(ctx, program, address, queue, logs) })
}

// startCloudTasks starts the program at an address.
func startCloudTasks(ctx context.Context, program, address, queue, logs string) (*CloudTasks, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p, err := start("cloud-tasks-emulator", logs, nil, nil, program, "-host", host, "-port", port, "-queue", queue)
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		_ = p.stop() // the error says what was wrong
		return nil, err
	}
	return &CloudTasks{Address: address, process: p}, nil
}

// Stop stops the emulator.
func (c *CloudTasks) Stop() error { return c.process.stop() }
