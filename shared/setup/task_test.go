package setup

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

func TestParseTaskNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want string }{
		"not JSON":           {`x`, "not a task"},
		"no setup":           {`{"generation":1,"step":"enable-apis","attempt":0}`, "setup"},
		"no generation":      {`{"setup":"a","step":"enable-apis","attempt":0}`, "generation"},
		"an unknown step":    {`{"setup":"a","generation":1,"step":"x","attempt":0}`, "step"},
		"a negative attempt": {`{"setup":"a","generation":1,"step":"enable-apis","attempt":-1}`, "attempt"},
		"an unknown field":   {`{"setup":"a","generation":1,"step":"enable-apis","attempt":0,"token":"x"}`, "not a task"},
		"two tasks":          {`{"setup":"a","generation":1,"step":"enable-apis","attempt":0}{}`, "more than a task"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseTask([]byte(tt.body))
			if connect.CodeOf(err) != connect.Invalid || !strings.Contains(connect.MessageOf(err), tt.want) {
				t.Errorf("ParseTask(%s) = %v, want an invalid argument about %q", tt.body, err, tt.want)
			}
		})
	}
}

func TestTaskNamesTellAttemptsApart(t *testing.T) {
	t.Parallel()
	setup := connect.Setup{ID: "s", Generation: 1, Step: "enable-apis"}
	name := func(change func(*connect.Setup)) string {
		s := setup
		change(&s)
		task, err := dueTask(&s)
		if err != nil {
			t.Fatal(err)
		}
		return task.Name
	}
	first := name(func(*connect.Setup) {})
	if again := name(func(s *connect.Setup) { s.DueAt = time.Now() }); again != first {
		t.Error("the same task has two names: it would be delivered twice")
	}
	for what, change := range map[string]func(*connect.Setup){
		"setup":      func(s *connect.Setup) { s.ID = "t" },
		"generation": func(s *connect.Setup) { s.Generation++ },
		"step":       func(s *connect.Setup) { s.Step = "grant-access" },
		"attempt":    func(s *connect.Setup) { s.Attempt++ },
	} {
		if name(change) == first {
			t.Errorf("another %s has the same name: its task would be taken for a repetition", what)
		}
	}
}

func FuzzParseTask(f *testing.F) {
	f.Add([]byte(`{"setup":"a","generation":1,"step":"enable-apis","attempt":0}`))
	f.Add([]byte(`{"setup":"","generation":-1,"step":"","attempt":1e9}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := ParseTask(body)
		if err != nil {
			if connect.CodeOf(err) != connect.Invalid {
				t.Errorf("ParseTask(%q) = %v, want an invalid argument", body, err)
			}
			return
		}
		encoded, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseTask(encoded); err != nil || again != task {
			t.Errorf("ParseTask(%s) = %+v, %v, want %+v", encoded, again, err, task)
		}
	})
}

func FuzzParseDiscoveryTask(f *testing.F) {
	f.Add([]byte(`{"user":"u","generation":1,"project":"p","run":"r","attempt":0}`))
	f.Add([]byte(`{"user":"u"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := parseDiscoveryTask(body)
		if err == nil && (task.User == "" || task.Project == "" || task.Run == "" || task.Generation < 1) {
			t.Errorf("parseDiscoveryTask(%q) = %+v: incomplete", body, task)
		}
	})
}
