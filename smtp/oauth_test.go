package smtp

import (
	"encoding/json"
	"strings"
	"testing"
)

// The response of RFC 7628 4.1 is read and printed as it is.
const bearerExample = "n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"

func TestBearer(t *testing.T) {
	want := BearerRequest{Identity: "user@example.com", Host: "server.example.com", Port: 587, Token: "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="}
	if r, ok := parseBearer(bearerExample); !ok || r != want || r.message() != bearerExample {
		t.Errorf("%+v %v", r, ok)
	}
	for _, req := range []BearerRequest{want, {Token: "x"}, {Identity: "a,b=c", Token: strings.Repeat("x", 8000)}} {
		r := talk(t, BearerClient(req), BearerServer(func(got BearerRequest) (Reply, BearerError) {
			if got != req {
				t.Errorf("%+v became %+v", req, got)
			}
			return Reply{Code: 235}, BearerError{}
		}))
		if r.Code != 235 {
			t.Errorf("%+v: %v", req, r)
		}
	}
	for _, req := range []BearerRequest{{}, {Token: "a b"}, {Token: "="}, {Token: "x\x01"}, {Token: "x", Host: "\x01"}, {Token: "x", Port: -1},
		{Token: "x", Port: 70000}, {Token: "x", Identity: "\x00"}, {Token: strings.Repeat("x", 20000)}} {
		if b, err := BearerClient(req).Start(); err == nil {
			t.Errorf("%+v is sent as %q", req, b)
		} else if len(req.Token) > 1 && strings.Contains(err.Error(), req.Token) {
			t.Errorf("%q tells the token", err)
		}
	}
}

// RFC 7628 3.2.2 and 3.2.3: the error is a JSON object in a challenge, the client
// answers %x01, and only then the exchange fails.
func TestBearerError(t *testing.T) {
	refuse := Reply{Code: 535, Status: Status{5, 7, 8}, Text: "no"}
	for _, test := range []struct {
		message string
		e       BearerError
		want    string
	}{
		{bearerExample, BearerError{}, `{"status":"invalid_token"}`},
		{bearerExample, BearerError{Status: "insufficient_scope", Scope: "mail", Configuration: "https://a.example/x"},
			`{"status":"insufficient_scope","scope":"mail","openid-configuration":"https://a.example/x"}`},
		{"n,,\x01auth=\x01\x01", BearerError{Status: "not asked"}, `{"status":"invalid_token"}`},
	} {
		for answer, code := range map[string]int{"\x01": 535, "": 501, "\x01\x01": 501, bearerExample: 501} {
			s := BearerServer(func(BearerRequest) (Reply, BearerError) { return refuse, test.e })
			challenge, done, _ := s.Next([]byte(test.message))
			if done || string(challenge) != test.want || !json.Valid(challenge) {
				t.Fatalf("%q: %s %v", test.message, challenge, done)
			}
			if _, done, r := s.Next([]byte(answer)); !done || r.Code != code {
				t.Errorf("%q: %v %v", answer, done, r)
			}
		}
	}
	c := BearerClient(BearerRequest{Token: "x"})
	if r := talk(t, c, BearerServer(func(BearerRequest) (Reply, BearerError) { return refuse, BearerError{} })); r != refuse {
		t.Errorf("in the end %v", r)
	}
	if b, err := c.Next(nil); err == nil {
		t.Errorf("an empty challenge is answered with %q", b)
	}
	if challenge, done, _ := BearerServer(nil).Next(nil); done || len(challenge) != 0 {
		t.Errorf("without a response: %q %v", challenge, done)
	}
}

func TestBearerServerRefuses(t *testing.T) {
	for _, message := range []string{
		"", "\x01", "\x01\x01", "n,,", "n,,\x01", "n,,\x01\x01", "n,,\x01auth=Bearer x", "n,,\x01auth=Bearer x\x01", "n,,auth=Bearer x\x01\x01",
		"p=tls-exporter,,\x01auth=Bearer x\x01\x01", "x,,\x01auth=Bearer x\x01\x01", "nx,,\x01auth=Bearer x\x01\x01", "n,user=a,\x01auth=Bearer x\x01\x01",
		"n,,\x01auth=Basic x\x01\x01", "n,,\x01auth=Bearer\x01\x01", "n,,\x01auth=Bearer \x01\x01", "n,,\x01auth=Bearer x y\x01\x01",
		"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", "n,,\x01port=0587\x01auth=Bearer x\x01\x01", "n,,\x01port=0\x01auth=Bearer x\x01\x01",
		"n,,\x01port=65536\x01auth=Bearer x\x01\x01", "n,,\x01host=a\x00b\x01auth=Bearer x\x01\x01", "n,,\x01=x\x01auth=Bearer x\x01\x01",
		"n,,\x01a1=x\x01auth=Bearer x\x01\x01", "n,,\x01host=\xff\x01auth=Bearer x\x01\x01", "n,,\x01auth=Bearer " + strings.Repeat("x", bearerMax) + "\x01\x01",
	} {
		_, done, r := BearerServer(func(BearerRequest) (Reply, BearerError) { return OK, BearerError{} }).Next([]byte(message))
		if !done || !strings.HasPrefix(r.String(), "501 5.5.2") {
			t.Errorf("%.60q: %v %v", message, done, r)
		}
	}
	for _, message := range []string{"n,,\x01auth=BeArEr  x\x01\x01", "y,,\x01auth=bearer x\x01qs=\x01whatever=a\tb\x01\x01"} {
		if _, done, r := BearerServer(func(BearerRequest) (Reply, BearerError) { return OK, BearerError{} }).Next([]byte(message)); !done || !r.Positive() {
			t.Errorf("%q: %v", message, r)
		}
	}
}

func TestExternal(t *testing.T) {
	for _, identity := range []string{"", "fred@example.com", "büro@our.example"} {
		if r := talk(t, ExternalClient(identity), ExternalServer(func(got string) Reply { return Reply{Code: 235, Text: got} })); r.Text != identity {
			t.Errorf("%q: %v", identity, r)
		}
	}
	for _, bad := range []string{"a\x00b", "\xff"} {
		if _, err := ExternalClient(bad).Start(); err == nil {
			t.Errorf("%q is sent", bad)
		}
		if _, done, r := ExternalServer(nil).Next([]byte(bad)); !done || !strings.HasPrefix(r.String(), "501 5.5.2") {
			t.Errorf("%q: %v", bad, r)
		}
	}
	if challenge, done, _ := ExternalServer(nil).Next(nil); done || len(challenge) != 0 {
		t.Errorf("without a response: %q %v", challenge, done)
	}
	if b, err := ExternalClient("").Next(nil); err == nil {
		t.Errorf("a challenge is answered with %q", b)
	}
}

// FuzzBearer: what is taken says who, and with which token; printed and read again
// it says the same.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{bearerExample, "n,,\x01auth=\x01\x01", "\x01", "y,a==2C,\x01x=y\x01auth=bearer  x\x01\x01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, message string) {
		r, ok := parseBearer(message)
		if !ok || r.Token == "" {
			return
		}
		if len(r.message()) > bearerMax {
			return
		}
		if back, ok := parseBearer(r.message()); !ok || back != r {
			t.Fatalf("%q: %+v became %+v", message, r, back)
		}
	})
}
