// Package vault keeps users' tokens in HashiCorp Vault's key-value store,
// version 2.
//
// Every write names the version that it replaces (check-and-set), so that of
// two requests which refresh the same token one wins and the other sees it.
// A delete removes the metadata, and with it all versions: nothing of a token
// can be undeleted. The policy that the program needs is in policy.hcl; it
// reaches the tokens and nothing else.
package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"gcpconnect/shared/connect"
)

// folder is where tokens are below the mount.
const folder = "tokens/"

// defaultTimeout is Options.Timeout unless it is set.
const defaultTimeout = 10 * time.Second

// Options say which Vault, and who we are there.
type Options struct {
	Address   string // URL
	Namespace string // empty: the root namespace
	Mount     string // of the key-value store
	Auth      Auth
	// Timeout is how long a call may take, login and retries included; 0: 10 s.
	Timeout time.Duration
	// Wrap puts something between the client and the network; nil: nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Vault is a connect.Vault in HashiCorp Vault.
type Vault struct {
	timeout time.Duration // of a call
	mount   string
	client  *api.Client
	kv      *api.KVv2
	session *session
}

var _ connect.Vault = (*Vault)(nil)

// New returns a Vault. It makes no call: the login is made when it is first
// used. Close it. It refuses a missing address or mount, for which Vault's client
// has defaults of its own, and half of what a login takes.
func New(o Options) (*Vault, error) {
	if o.Address == "" || o.Mount == "" {
		return nil, errors.New("vault: address and mount are required")
	}
	config := api.DefaultConfig() // reads VAULT_CACERT and the like
	if config.Error != nil {
		return nil, fmt.Errorf("configure Vault client: %w", config.Error)
	}
	if t, ok := config.HttpClient.Transport.(*http.Transport); ok && t.TLSClientConfig != nil && t.TLSClientConfig.InsecureSkipVerify {
		return nil, errors.New("VAULT_SKIP_VERIFY gives tokens to any server that answers: unset it, and name Vault's certificate authority in VAULT_CACERT")
	}
	config.Address, config.AgentAddress, config.Timeout = o.Address, "", cmp.Or(o.Timeout, defaultTimeout)
	config.MaxRetries, config.MinRetryWait, config.MaxRetryWait = 2, 200*time.Millisecond, time.Second
	if o.Wrap != nil {
		config.HttpClient.Transport = o.Wrap(config.HttpClient.Transport)
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("make Vault client: %w", err)
	}
	client.ClearToken() // which it takes from the environment
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	session, err := newSession(client, o.Auth)
	if err != nil {
		return nil, err
	}
	return &Vault{timeout: config.Timeout, mount: o.Mount, client: client, kv: client.KVv2(o.Mount), session: session}, nil
}

// Close ends the renewal of our own Vault token.
func (v *Vault) Close() error {
	v.session.close()
	return nil
}

// Put stores a token in place of that version, 0 for none.
func (v *Vault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	var stored *api.KVSecret
	err := v.do(ctx, "store tokens", func(ctx context.Context) (err error) {
		stored, err = v.kv.Put(ctx, folder+string(ref), encode(t), api.WithCheckAndSet(version))
		return err
	})
	if connect.CodeOf(err) == connect.Conflict {
		// It may be our own write that stands there: its answer can be lost,
		// and the client then repeats it.
		if there, at, failed := v.Get(ctx, ref); failed == nil && at == version+1 && same(there, t) {
			return at, nil
		}
	}
	if err != nil {
		return 0, err
	}
	return stored.VersionMetadata.Version, nil
}

// Get returns the token and its version.
func (v *Vault) Get(ctx context.Context, ref connect.TokenRef) (connect.Token, int, error) {
	var stored *api.KVSecret
	err := v.do(ctx, "read tokens", func(ctx context.Context) (err error) {
		stored, err = v.kv.Get(ctx, folder+string(ref))
		if errors.Is(err, api.ErrSecretNotFound) {
			return v.missing(ctx, ref)
		}
		return err
	})
	if err == nil && stored.Data == nil { // the version was deleted by hand
		err = errNoTokens
	}
	if err != nil {
		return connect.Token{}, 0, err
	}
	t, err := decode(stored.Data)
	return t, stored.VersionMetadata.Version, err
}

// missing says whether a token is missing, or all of the store: Vault answers
// 404 to both, and words to the latter. Who takes the one for the other tells
// every user to connect anew.
func (v *Vault) missing(ctx context.Context, ref connect.TokenRef) error {
	resp, err := v.client.Logical().ReadRawWithContext(ctx, v.mount+"/data/"+folder+string(ref))
	if resp != nil {
		_ = resp.Body.Close()
	}
	if answer, ok := errors.AsType[*api.ResponseError](err); err == nil || ok && answer.StatusCode == http.StatusNotFound && len(answer.Errors) == 0 {
		return api.ErrSecretNotFound
	}
	return err
}

// Delete removes every version of the token.
func (v *Vault) Delete(ctx context.Context, ref connect.TokenRef) error {
	return v.do(ctx, "delete tokens", func(ctx context.Context) error {
		return v.kv.DeleteMetadata(ctx, folder+string(ref))
	})
}

// do runs one call with a session. A session that Vault does not take any more,
// because somebody revoked it, is replaced once.
func (v *Vault) do(ctx context.Context, doing string, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	for last := false; ; last = true {
		used, err := v.session.ensure(ctx)
		if err != nil {
			return classifyLogin(err)
		}
		err = call(ctx)
		if !last && forbidden(err) && v.session.dead(ctx, used) {
			v.session.forget(used.id)
			continue
		}
		return classify(doing, err)
	}
}

// The fields of a stored token.
const (
	accessField  = "access_token"
	refreshField = "refresh_token"
	expiryField  = "expiry"
	scopesField  = "scopes"
)

func encode(t connect.Token) map[string]any {
	fields := map[string]any{accessField: t.Access.Reveal()}
	if t.Refresh != "" {
		fields[refreshField] = t.Refresh.Reveal()
	}
	if !t.Expiry.IsZero() {
		fields[expiryField] = t.Expiry.Format(time.RFC3339Nano)
	}
	if len(t.Scopes) > 0 {
		fields[scopesField] = t.Scopes
	}
	return fields
}

func decode(fields map[string]any) (t connect.Token, err error) {
	text := func(field string) string {
		s, _ := fields[field].(string)
		return s
	}
	t.Access, t.Refresh = connect.Secret(text(accessField)), connect.Secret(text(refreshField))
	if expiry := text(expiryField); expiry != "" {
		if t.Expiry, err = time.Parse(time.RFC3339Nano, expiry); err != nil {
			return connect.Token{}, connect.Errorf(connect.Internal, "The stored tokens cannot be read.").Because(err)
		}
	}
	scopes, _ := fields[scopesField].([]any)
	for _, scope := range scopes {
		if s, ok := scope.(string); ok {
			t.Scopes = append(t.Scopes, s)
		}
	}
	return t, nil
}

// same reports whether two tokens are stored as the same.
func same(a, b connect.Token) bool {
	return a.Expiry.Equal(b.Expiry) && a.Access == b.Access && a.Refresh == b.Refresh && slices.Equal(a.Scopes, b.Scopes)
}
