package smtp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// pencil are keys of the password "pencil" with the salt of RFC 7677 3.
func pencil(t testing.TB) SCRAMKeys {
	t.Helper()
	salt, _ := DecodeSASL("W22ZaJ0SNY7soEsUEjb6gQ==")
	k, err := NewSCRAMKeys("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The exchange of RFC 7677 3, of both ends.
func TestSCRAMVector(t *testing.T) {
	const (
		cnonce    = "rOprNGfwEbeRWgbNEkqO"
		nonce     = cnonce + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
		first     = "n,,n=user,r=" + cnonce
		challenge = "r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
		final     = "c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
		end       = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	)
	m, err := parseScramFirst(first)
	if err != nil || m.String() != first {
		t.Fatalf("%v: %s", err, m)
	}
	c := &scramClient{o: SCRAMClientOptions{User: "user", Password: "pencil"}, first: m, step: scramStepFinal}
	if got, err := c.Next([]byte(challenge)); err != nil || string(got) != final {
		t.Errorf("the client said %s, %v", got, err)
	}
	if c.Proved() {
		t.Error("proved before the server has said a word of it")
	}
	if got, err := c.Next([]byte(end)); err != nil || got == nil || len(got) > 0 || !c.Proved() {
		t.Errorf("the client said %q, %v", got, err)
	}
	s := &scramServer{step: scramStepFinal, first: m, nonce: nonce, sent: challenge, binding: []byte("n,,"), keys: pencil(t)}
	s.o.Finish = func(identity, user string, proved bool) Reply {
		if identity != "" || user != "user" || !proved {
			t.Errorf("%q %q %v", identity, user, proved)
		}
		return Reply{Code: 235}
	}
	if got, done, r := s.Next([]byte(final)); string(got) != end || done {
		t.Errorf("the server said %s, %v %v", got, done, r)
	}
	if _, done, r := s.Next([]byte{}); !done || r.Code != 235 {
		t.Errorf("in the end: %v %v", done, r)
	}
}

// The messages of the example in RFC 5802 5 are read and printed as they are, and
// so are those of others.
func TestSCRAMMessages(t *testing.T) {
	const nonce = "fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"
	for _, s := range []string{
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "y,,n=user,r=x", "p=tls-unique,a=an=2Cother=3D,n=b=C3=BC,r=x", "n,,n=a=2Cb,r=x,f=oo,B=a=r",
		"p=tls-exporter,,n=büro@our.example,r=!",
	} {
		m, err := parseScramFirst(s)
		if strings.Contains(s, "=C3") {
			if err == nil {
				t.Errorf("%s is taken", s)
			}
			continue
		}
		if err != nil || m.String() != s {
			t.Errorf("%s: %s, %v", s, m, err)
		}
	}
	challenge := "r=" + nonce + ",s=QSXCR+Q6sek8bf92,i=4096"
	if m, err := parseScramChallenge(challenge); err != nil || m.String() != challenge || m.nonce != nonce || m.iterations != 4096 || len(m.salt) != 12 {
		t.Errorf("%v %v", m, err)
	}
	final := "c=biws,r=" + nonce + ",x=y,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
	if m, err := parseScramFinal(final); err != nil || m.String() != final || string(m.binding) != "n,," || len(m.proof) != 20 {
		t.Errorf("%v %v", m, err)
	}
	m := scramFirst{header: gs2Header{flag: bindingNone, identity: "a=b,c"}, user: "=2C,", nonce: "x"}
	if got, want := m.String(), "n,a=a=3Db=2Cc,n==3D2C=2C,r=x"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if back, err := parseScramFirst(m.String()); err != nil || back.user != m.user || back.header != m.header {
		t.Errorf("%+v, %v", back, err)
	}
}

// exporter is a channel binding.
var exporter = ChannelBinding{"tls-exporter", []byte("thirty-two octets of one channel")}

// A scramTry is one exchange: what the client is given, and what comes of it.
type scramTry struct {
	name     string
	client   SCRAMClientOptions
	plus     bool             // of the server
	bindings []ChannelBinding // of the server
	want     string           // of the last reply
}

func TestSCRAM(t *testing.T) {
	k := pencil(t)
	other := ChannelBinding{exporter.Type, []byte("another channel")}
	for _, test := range []scramTry{
		{name: "plain", client: SCRAMClientOptions{User: "user", Password: "pencil"}, want: "235"},
		{name: "as itself", client: SCRAMClientOptions{User: "user", Password: "pencil", Identity: "user"}, want: "235 user"},
		{name: "odd names", client: SCRAMClientOptions{User: "=2C,büro", Password: "pencil", Identity: "a,b=c"}, want: "235 a,b=c"},
		{name: "wrong password", client: SCRAMClientOptions{User: "user", Password: "Pencil"}, want: "535 5.7.8"},
		{name: "bound", client: SCRAMClientOptions{User: "user", Password: "pencil", Plus: true, Binding: exporter}, plus: true,
			bindings: []ChannelBinding{{"tls-unique", []byte("x")}, exporter}, want: "235"},
		{name: "bound, wrong password", client: SCRAMClientOptions{User: "user", Password: "x", Plus: true, Binding: exporter}, plus: true,
			bindings: []ChannelBinding{exporter}, want: "535 5.7.8"},
		{name: "somebody in between", client: SCRAMClientOptions{User: "user", Password: "pencil", Plus: true, Binding: other}, plus: true,
			bindings: []ChannelBinding{exporter}, want: "535 5.7.0 The channel binding"},
		{name: "another type", client: SCRAMClientOptions{User: "user", Password: "pencil", Plus: true, Binding: ChannelBinding{"tls-unique", []byte("x")}},
			plus: true, bindings: []ChannelBinding{exporter}, want: "535 5.7.0 That channel binding"},
		{name: "a type without octets", client: SCRAMClientOptions{User: "user", Password: "pencil", Plus: true, Binding: exporter}, plus: true,
			bindings: []ChannelBinding{{Type: exporter.Type}}, want: "535 5.7.0 That channel binding"},
		{name: "PLUS taken out of the list", client: SCRAMClientOptions{User: "user", Password: "pencil", Able: true},
			bindings: []ChannelBinding{exporter}, want: "535 5.7.0 SCRAM-SHA-256-PLUS is offered here"},
		{name: "PLUS is not there", client: SCRAMClientOptions{User: "user", Password: "pencil", Able: true}, want: "235"},
		{name: "does not bind", client: SCRAMClientOptions{User: "user", Password: "pencil"}, bindings: []ChannelBinding{exporter}, want: "235"},
		{name: "PLUS without binding", client: SCRAMClientOptions{User: "user", Password: "pencil"}, plus: true,
			bindings: []ChannelBinding{exporter}, want: "535 5.7.0 SCRAM-SHA-256-PLUS goes with"},
		{name: "binding without PLUS", client: SCRAMClientOptions{User: "user", Password: "pencil", Plus: true, Binding: exporter},
			bindings: []ChannelBinding{exporter}, want: "535 5.7.0 SCRAM-SHA-256-PLUS goes with"},
	} {
		asked := 0
		test.client.Rand = rand.Reader
		c := SCRAMClient(test.client)
		r := talk(t, c, SCRAMServer(SCRAMServerOptions{Plus: test.plus, Bindings: test.bindings, Rand: rand.Reader,
			Keys: func(user string) SCRAMKeys {
				if user != test.client.User {
					t.Errorf("%s: %q", test.name, user)
				}
				return k
			},
			Finish: func(identity, user string, proved bool) Reply {
				asked++
				if user != test.client.User || identity != test.client.Identity || proved != (test.client.Password == "pencil") {
					t.Errorf("%s: %q %q %v", test.name, identity, user, proved)
				}
				return Reply{Code: 235, Text: identity} // the library does not believe it
			}}))
		if !strings.HasPrefix(r.String(), test.want) || asked != map[bool]int{true: 1}[r.Code == 235 || r.Status.Detail == 8] {
			t.Errorf("%s: %v, asked %d times", test.name, r, asked)
		}
		if c.(SASLProver).Proved() != (r.Code == 235) {
			t.Errorf("%s: proved after %v", test.name, r)
		}
	}
}

// What a client must not send, with its reply.
func TestSCRAMServerRefuses(t *testing.T) {
	k := pencil(t)
	for _, test := range []struct{ first, final, want string }{
		{"", "", "501 5.5.2"}, {"n", "", "501 5.5.2"}, {"n,,", "", "501 5.5.2"}, {"n,n=user,r=x", "", "501 5.5.2"},
		{"x,,n=user,r=x", "", "501 5.5.2"}, {"nn,,n=user,r=x", "", "501 5.5.2"}, {"F,n,,n=user,r=x", "", "501 5.5.2"},
		{"p,,n=user,r=x", "", "501 5.5.2"}, {"p=,,n=user,r=x", "", "501 5.5.2"}, {"p=a_b,,n=user,r=x", "", "501 5.5.2"},
		{"n,a=,n=user,r=x", "", "501 5.5.2"}, {"n,b=c,n=user,r=x", "", "501 5.5.2"}, {"n,a==2D,n=user,r=x", "", "501 5.5.2"},
		{"n,,n=,r=x", "", "501 5.5.2"}, {"n,,r=x,n=user", "", "501 5.5.2"}, {"n,,n=user", "", "501 5.5.2"},
		{"n,,n=user,r=", "", "501 5.5.2"}, {"n,,n=user,r=x y", "", "501 5.5.2"}, {"n,,n=user,r=\u00e9", "", "501 5.5.2"},
		{"n,,n=us=er,r=x", "", "501 5.5.2"}, {"n,,n=us=2cer,r=x", "", "501 5.5.2"}, {"n,,n=us=,r=x", "", "501 5.5.2"},
		{"n,,n=us\x00er,r=x", "", "501 5.5.2"}, {"n,,n=\xff,r=x", "", "501 5.5.2"}, {"n,,n=user,r=x,", "", "501 5.5.2"},
		{"n,,n=user,r=x,f", "", "501 5.5.2"}, {"n,,n=user,r=x,f=", "", "501 5.5.2"}, {"n,,n=user,r=x,1=2", "", "501 5.5.2"},
		{"n,,n=user,r=" + strings.Repeat("x", scramMessageMax), "", "501 5.5.2"},
		{"n,,m=a,n=user,r=x", "", "535 5.7.0 That extension"}, {"n,,n=user,r=x,m=a", "", "535 5.7.0 That extension"},
		{"y,,n=user,r=x", "", "535 5.7.0 SCRAM-SHA-256-PLUS is offered"},
		{"p=tls-exporter,,n=user,r=x", "", "535 5.7.0 SCRAM-SHA-256-PLUS goes"}, {"n,,n=user,r=x", "", "501 5.5.2"},
		{"n,,n=user,r=x", "c=biws,r=NONCE", "501 5.5.2"}, {"n,,n=user,r=x", "c=biws,r=NONCE,p=", "535 5.7.8"},
		{"n,,n=user,r=x", "c=biws,r=NONCE,p=AA==", "535 5.7.8"}, {"n,,n=user,r=x", "c=biws,r=NONCE,p=AA", "501 5.5.2"},
		{"n,,n=user,r=x", "c=biws,r=NONCE,p=AA==,x=y", "501 5.5.2"}, {"n,,n=user,r=x", "c=biws,r=x,p=AA==", "501 5.5.2"},
		{"n,,n=user,r=x", "c=biws,r=NONCEx,p=AA==", "501 5.5.2"}, {"n,,n=user,r=x", "r=NONCE,c=biws,p=AA==", "501 5.5.2"},
		{"n,,n=user,r=x", "c=biws,r=NONCE,m=x,p=AA==", "535 5.7.0 That extension"},
		{"n,,n=user,r=x", "m=x,c=biws,r=NONCE,p=AA==", "535 5.7.0 That extension"},
		{"n,,n=user,r=x", "c=eSws,r=NONCE,p=AA==", "535 5.7.0 The channel binding"},
		{"n,,n=user,r=x", "c=,r=NONCE,p=AA==", "501 5.5.2"}, {"n,,n=user,r=x", "c=bi=ws,r=NONCE,p=AA==", "501 5.5.2"},
		{"n,a=user,n=user,r=x", "c=biws,r=NONCE,p=AA==", "535 5.7.0 The channel binding"},
		{"n,,n=user,r=x", "c=biws,r=NONCE,x=" + strings.Repeat("x", scramMessageMax) + ",p=AA==", "501 5.5.2"},
	} {
		s := SCRAMServer(SCRAMServerOptions{Bindings: []ChannelBinding{exporter}, Rand: rand.Reader,
			Keys:   func(string) SCRAMKeys { return k },
			Finish: func(_, _ string, _ bool) Reply { return Reply{Code: 235} }})
		challenge, done, r := s.Next([]byte(test.first))
		if !done {
			nonce, _, _ := strings.Cut(strings.TrimPrefix(string(challenge), "r="), ",")
			challenge, done, r = s.Next([]byte(strings.ReplaceAll(test.final, "NONCE", nonce)))
		}
		if !done || challenge != nil || !strings.HasPrefix(r.String(), test.want) {
			t.Errorf("%.80q %.80q: %q %v %v, want %s", test.first, test.final, challenge, done, r, test.want)
		}
	}
	if challenge, done, _ := SCRAMServer(SCRAMServerOptions{}).Next(nil); done || len(challenge) != 0 {
		t.Errorf("without a response: %q %v", challenge, done)
	}
	s := SCRAMServer(SCRAMServerOptions{Rand: iotest.ErrReader(errors.New("no luck")), Keys: func(string) SCRAMKeys { return k }})
	if _, done, r := s.Next([]byte("n,,n=user,r=x")); !done || !r.IsZero() {
		t.Errorf("without a random source: %v %v", done, r)
	}
}

// RFC 4954 4: SMTP has no additional data with a success, so that our signature is
// a challenge; nothing but an empty response goes with it.
func TestSCRAMServerEnd(t *testing.T) {
	for _, last := range []string{"", "x"} {
		s := &scramServer{step: scramStepEnd, reply: Reply{Code: 235}}
		if _, done, r := s.Next([]byte(last)); !done || r.Positive() != (last == "") {
			t.Errorf("%q: %v %v", last, done, r)
		}
	}
}

// What a server must not say. A server that does not prove itself has not
// authenticated us.
func TestSCRAMClientRefuses(t *testing.T) {
	const salt = ",s=W22ZaJ0SNY7soEsUEjb6gQ=="
	for _, challenges := range [][]string{
		{""}, {"x"}, {"r=NONCE1" + salt}, {"r=NONCE" + salt + ",i=4096"}, {"r=1NONCE" + salt + ",i=4096"}, {"r=NONCE1,s=,i=4096"},
		{"r=NONCE1,s=!,i=4096"}, {"r=NONCE1" + salt + ",i=4095"}, {"r=NONCE1" + salt + ",i=2000001"}, {"r=NONCE1" + salt + ",i=04096"},
		{"r=NONCE1" + salt + ",i=+4096"}, {"r=NONCE1" + salt + ",i=99999999999999999999"}, {"m=x,r=NONCE1" + salt + ",i=4096"},
		{"r=NONCE1" + salt + ",i=4096,m=x"}, {"e=unknown-user"}, {"r=NONCE1,s=" + strings.Repeat("AAAA", 100) + ",i=4096"},
		{"r=NONCE1" + salt + ",i=4096", ""}, {"r=NONCE1" + salt + ",i=4096", "v="}, {"r=NONCE1" + salt + ",i=4096", "v=AA=="},
		{"r=NONCE1" + salt + ",i=4096", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
		{"r=NONCE1" + salt + ",i=4096", "e=other-error", "again"},
	} {
		c := SCRAMClient(SCRAMClientOptions{User: "user", Password: "pencil", Rand: rand.Reader})
		first, err := c.Start()
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, _ := strings.Cut(string(first), "r=")
		var answer []byte
		for _, challenge := range challenges {
			if answer, err = c.Next([]byte(strings.ReplaceAll(challenge, "NONCE", nonce))); err != nil {
				break
			}
		}
		last := challenges[len(challenges)-1]
		if err == nil || answer != nil || c.(SASLProver).Proved() {
			t.Errorf("%q: %q, %v", challenges, answer, err)
		}
		if strings.HasPrefix(last, "v=6r") != errors.Is(err, ErrServerUnproved) && !strings.HasPrefix(last, "v=A") {
			t.Errorf("%q: %v", challenges, err)
		}
	}
	for _, o := range []SCRAMClientOptions{
		{User: "", Password: "x"}, {User: "x"}, {User: "\x00", Password: "x"}, {User: "x", Password: "x", Identity: "\xff"},
		{User: "x", Password: "x", Plus: true}, {User: "x", Password: "x", Plus: true, Binding: ChannelBinding{"a,b", []byte("x")}},
		{User: "x", Password: "x", Rand: iotest.ErrReader(errors.New("no luck"))},
	} {
		if o.Rand == nil {
			o.Rand = rand.Reader
		}
		if b, err := SCRAMClient(o).Start(); err == nil {
			t.Errorf("%+v: %q", o, b)
		}
	}
	if SCRAMClient(SCRAMClientOptions{}).Mechanism() != "SCRAM-SHA-256" || SCRAMClient(SCRAMClientOptions{Plus: true}).Mechanism() != "SCRAM-SHA-256-PLUS" {
		t.Error("a mechanism has another name")
	}
}

func TestNewSCRAMKeys(t *testing.T) {
	for _, test := range []struct {
		salt       string
		iterations int
	}{{"", 4096}, {strings.Repeat("x", 129), 4096}, {"x", 4095}, {"x", 0}, {"x", -1}, {"x", 2_000_001}} {
		if _, err := NewSCRAMKeys("x", []byte(test.salt), test.iterations); err == nil {
			t.Errorf("%d octets and %d iterations are taken", len(test.salt), test.iterations)
		}
	}
	if _, err := NewSCRAMKeys("x", []byte(strings.Repeat("x", 128)), 4096); err != nil {
		t.Errorf("the longest salt: %v", err)
	}
}

// FuzzSCRAM: what is read is printed as it was, so that both ends compute over
// the same octets; and whatever a client or a server says, nobody is proved.
func FuzzSCRAM(f *testing.F) {
	for _, s := range []string{
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "p=tls-exporter,a=x,n=a=2Cb=3D,r=x,e=f", "y,,n=ü,r=!", "n,,m=x,n=u,r=x",
		"r=x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "c=biws,r=x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=AA==", "e=other-error",
	} {
		f.Add(s, s)
	}
	k := pencil(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		if m, err := parseScramFirst(a); err == nil && m.String() != a {
			t.Fatalf("%q is printed %q", a, m)
		}
		if m, err := parseScramChallenge(a); err == nil && m.String() != a {
			t.Fatalf("%q is printed %q", a, m)
		}
		if m, err := parseScramFinal(a); err == nil && m.String() != a {
			t.Fatalf("%q is printed %q", a, m)
		}
		s := SCRAMServer(SCRAMServerOptions{Rand: bytes.NewReader(make([]byte, scramNonceSize)), Keys: func(string) SCRAMKeys { return k },
			Finish: func(_, _ string, _ bool) Reply { return Reply{Code: 235} }})
		if _, done, r := s.Next([]byte(a)); !done {
			_, done, r = s.Next([]byte(b))
			if !done || r.Positive() {
				t.Fatalf("%q %q: %v %v", a, b, done, r)
			}
		} else if r.Positive() || !r.Permanent() {
			t.Fatalf("%q: %v", a, r)
		}
		c := SCRAMClient(SCRAMClientOptions{User: "user", Password: "pencil", Rand: bytes.NewReader(make([]byte, scramNonceSize))})
		if _, err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, i, _ := strings.Cut(a, ",i="); len(i) > 4 {
			return // what costs time
		}
		if _, err := c.Next([]byte(a)); err == nil {
			c.Next([]byte(b))
		}
		if c.(SASLProver).Proved() {
			t.Fatalf("%q %q prove a server", a, b)
		}
	})
}

// FuzzSCRAMStep: with any names, both ends stay in step, and agree on who it is.
func FuzzSCRAMStep(f *testing.F) {
	f.Add("user", "", true, true)
	f.Add("a=2C,=", "b,=3D", false, true)
	f.Add("büro\u00a0", "\x00", true, false)
	k := pencil(f)
	f.Fuzz(func(t *testing.T, user, identity string, plus, right bool) {
		password := map[bool]string{true: "pencil", false: "pen"}[right]
		c := SCRAMClient(SCRAMClientOptions{User: user, Password: password, Identity: identity, Plus: plus, Binding: exporter, Rand: rand.Reader})
		if first, err := c.Start(); err != nil || len(first) > scramMessageMax/2 {
			return
		}
		var bindings []ChannelBinding
		if plus {
			bindings = []ChannelBinding{exporter}
		}
		var said []string
		r := talk(t, c, SCRAMServer(SCRAMServerOptions{Plus: plus, Bindings: bindings, Rand: rand.Reader, Keys: func(string) SCRAMKeys { return k },
			Finish: func(identity, user string, proved bool) Reply {
				said = []string{identity, user}
				return Reply{Code: 235}
			}}))
		if r.Positive() != right || c.(SASLProver).Proved() != right || !slices.Equal(said, []string{identity, user}) {
			t.Fatalf("%q %q: %v, %q", user, identity, r, said)
		}
	})
}
