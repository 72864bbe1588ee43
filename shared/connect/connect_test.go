package connect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	const value = "ya29.very-secret"
	token := connect.Token{Access: value, Refresh: value, Scopes: []string{"openid"}}
	encoded, err := json.Marshal(map[string]any{"token": token, "minted": connect.AccessToken{Value: value}, "bare": connect.Secret(value)})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", connect.Secret(value), "token", token, "pointer", &token)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", connect.Secret(value), "token", token)
	for name, printed := range map[string]string{
		"verbs":  fmt.Sprintf("%v %+v %#v %s %q %x %d", connect.Secret(value), connect.Secret(value), connect.Secret(value), connect.Secret(value), connect.Secret(value), connect.Secret(value), connect.Secret(value)),
		"inside": fmt.Sprintf("%v %+v %#v %v", token, token, token, &token),
		"errors": fmt.Errorf("with %v: %w", token, errors.New("x")).Error(),
		"JSON":   string(encoded),
		"slog":   log.String(),
	} {
		if strings.Contains(printed, "very-secret") || !strings.Contains(printed, "[redacted]") {
			t.Errorf("%s: %s", name, printed)
		}
	}
	if connect.Secret(value).Reveal() != value {
		t.Error("Reveal does not give the value")
	}
}

func TestDisconnectKeepsWhatARepetitionNeeds(t *testing.T) {
	t.Parallel()
	c := &connect.Connection{
		UserID: "u", Generation: 3, Connected: true, Email: "e", Subject: "sub", Tokens: "ref", PreferredRoot: "p",
		Projects: []connect.ConnectedProject{{ID: "p"}}, SetupID: "s", NeedsReauth: true,
	}
	first := time.Now()
	c.Disconnect(first)
	if c.Connected || !c.LeftAt.Equal(first) || c.Generation != 4 || c.Tokens != "" || len(c.Stale) != 1 || c.Stale[0] != (connect.Grant{Tokens: "ref", Subject: "sub"}) || c.StaleAt.IsZero() || c.PreferredRoot != "p" || c.SetupID != "s" || c.Email != "" || c.Projects != nil || c.NeedsReauth {
		t.Errorf("tombstone = %+v", c)
	}
	second := first.Add(time.Second)
	c.Disconnect(second)
	if c.Generation != 4 || !c.LeftAt.Equal(second) || len(c.Stale) != 1 {
		t.Errorf("after a second disconnect it is %+v", c)
	}
}

// Whoever sees the Vault's paths learns neither whose tokens they are nor which
// are of one user, not even by trying out names.
func TestThePathOfTokensSaysNothingOfTheirUser(t *testing.T) {
	t.Parallel()
	const user = "customer@example.com"
	one, two := connecttest.Login(t, user, "s", "", time.Now()).Tokens(), connecttest.Login(t, user, "t", "", time.Now()).Tokens()
	for i := range len(one) - 7 {
		if part := string(one[i : i+8]); strings.Contains(string(two), part) || strings.Contains(connect.Hash(user), part) || strings.Contains(user, part) {
			t.Errorf("%s and %s share %q with each other or with the user", one, two, part)
		}
	}
	// Those of the release before this one stay where they are.
	old := connecttest.Login(t, user, "s", "", time.Now())
	old.Version = 1
	if ref := string(old.Tokens()); ref != connect.Hash(user)[:32]+"/"+old.ID {
		t.Errorf("the tokens of the release before are at %s", ref)
	}
}

func TestEndIsFinal(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &connect.Setup{State: connect.StateRunning, Lease: connect.Lease{Holder: "h", ExpiresAt: now.Add(time.Minute)}}
	s.End(connect.StateCanceled, "disconnected", "m", now)
	s.End(connect.StateSucceeded, "", "", now.Add(time.Second))
	if s.State != connect.StateCanceled || s.Code != "disconnected" || !s.EndedAt.Equal(now) || s.Lease.Live(now) {
		t.Errorf("setup = %+v", s)
	}
}

func TestProjectErrorsAreOneAStep(t *testing.T) {
	t.Parallel()
	var p connect.Project
	p.Fail("a", connect.ProjectError{Message: "1"})
	p.Fail("b", connect.ProjectError{Message: "2"})
	p.Fail("a", connect.ProjectError{Message: "3"})
	if len(p.Errors) != 2 || !p.Failed("a") || p.Errors[1].Message != "3" {
		t.Errorf("errors = %+v", p.Errors)
	}
	p.Recover("a")
	if p.Failed("a") || !p.Failed("b") {
		t.Errorf("errors = %+v", p.Errors)
	}
	p.Refuse("c", "refused: ", map[string]string{"y": "2", "x": "1"}, ". Retry.")
	p.Refuse("c", "refused: ", map[string]string{"z": "3"}, ". Retry.")
	if got, want := p.Errors[1].Message, "refused: x (1), y (2), z (3). Retry."; got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
}

func TestErrorsShowWordsAndKeepTheirCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("dial tcp 10.0.0.1: refused")
	err := fmt.Errorf("read policy: %w", connect.Errorf(connect.Unavailable, "Google could not be reached.").Because(cause))
	if connect.CodeOf(err) != connect.Unavailable || connect.MessageOf(err) != "Google could not be reached." || !errors.Is(err, cause) {
		t.Errorf("code %q, message %q, error %v", connect.CodeOf(err), connect.MessageOf(err), err)
	}
	if connect.CodeOf(cause) != connect.Internal || connect.MessageOf(cause) != "Internal error." || connect.CodeOf(nil) != "" {
		t.Error("an error of no class shows something of itself")
	}
}

func TestNewLogin_RefusesEmptyUserAndState(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"", "state"}, {"user", ""}} {
		if l, err := connect.NewLogin(c[0], "", c[1], "", time.Now()); err == nil {
			t.Errorf("made a login of user %q and state %q: %+v", c[0], c[1], l)
		}
	}
}

func TestKey_RefusesShortAndUnreadableKeys(t *testing.T) {
	t.Parallel()
	const good connect.Secret = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="
	for _, text := range []connect.Secret{good, good + "\n"} { // openssl ends it with a newline
		if key, err := connect.Key(text); err != nil || string(key) != "login-key-of-thirty-two-bytes-12" {
			t.Errorf("%q is %q, %v", text.Reveal(), key, err)
		}
	}
	for _, text := range []connect.Secret{"", "\n", "c2hvcnQ=", "not base64 but long enough to be a key of 32 bytes", good[:43]} {
		_, err := connect.Key(text)
		if err == nil {
			t.Errorf("%q is taken for a key", text.Reveal())
		} else if len(text) > 1 && strings.Contains(err.Error(), text.Reveal()) {
			t.Errorf("the error holds the key: %v", err)
		}
	}
}
