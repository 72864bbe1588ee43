package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"time"

	"gcpconnect/functions"
)

// Start is the cold start of a function.
type Start struct {
	Function     string
	Milliseconds float64 // from exec to the first answer, median
	Ratio        float64 // to a hello-world on the same framework
}

// coldStarts is how often each program is started.
const coldStarts = 15

// startEnvironment is a configuration of services that are not there: a function must start
// without a connection to any of them.
func startEnvironment(function string) map[string]string {
	return map[string]string{
		"FUNCTION_TARGET": function, "BACKENDS": "real",
		"CLIENT_ID": "id", "CLIENT_SECRET": "secret",
		"LOGIN_KEY":               base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"NEXT_PUBLIC_BACKEND_URL": "https://backend.example", "FRONTURL": "https://front.example",
		"GOOGLE_CLOUD_PROJECT": "aurora", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
		"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1",
		"CLOUD_TASKS_QUEUE":         "projects/aurora/locations/europe-west1/queues/setups",
		"VAULT_ADDR":                "http://127.0.0.1:1", "VAULT_TOKEN": "token",
	}
}

// measureColdStarts starts every function, and two programs to compare with, in turns: what else
// the machine does affects all alike.
func (b *bench) measureColdStarts(ctx context.Context) error {
	type candidate struct {
		name, program string
		environment   map[string]string
		starts        []time.Duration
	}
	product, err := b.build(ctx, productProgram)
	if err != nil {
		return err
	}
	hello, err := b.build(ctx, helloProgram)
	if err != nil {
		return err
	}
	linked, err := b.build(ctx, linkedProgram)
	if err != nil {
		return err
	}
	target := map[string]string{"FUNCTION_TARGET": "hello"}
	candidates := []*candidate{
		{name: "hello-world on the same framework", program: hello, environment: target},
		{
			name:    "hello-world that links the seven libraries, and uses none",
			program: linked, environment: target,
		},
	}
	for _, f := range functions.Table() {
		c := &candidate{name: f.Name, program: product, environment: startEnvironment(f.Name)}
		candidates = append(candidates, c)
	}
	for range coldStarts {
		for _, c := range candidates {
			s, err := b.serve(ctx, c.program, c.environment)
			if err != nil {
				return err
			}
			c.starts = append(c.starts, s.start)
			s.stop()
		}
	}
	for _, c := range candidates {
		slices.Sort(c.starts)
		ms := float64(c.starts[len(c.starts)/2].Microseconds()) / 1000
		b.report.ColdStart = append(b.report.ColdStart, Start{Function: c.name, Milliseconds: ms})
	}
	for i := range b.report.ColdStart {
		s := &b.report.ColdStart[i]
		s.Ratio = s.Milliseconds / b.report.ColdStart[0].Milliseconds
	}
	b.report.Binary, err = size(product)
	if err != nil {
		return err
	}
	b.report.Hello, err = size(hello)
	return err
}

func size(file string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, fmt.Errorf("size of a program: %w", err)
	}
	return info.Size(), nil
}
