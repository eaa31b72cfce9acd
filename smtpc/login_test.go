package smtpc

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// mechanisms is a peer that offers some, and knows the password "pencil" and the
// token "token". What it is sent it writes down, decoded.
func mechanisms(t *testing.T, offer string) (c *Conn, heard func() string) {
	t.Helper()
	client, server := pair(t)
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := tls.Server(server, serverTLS())
		var m smtp.SASLServer
		next := func(response []byte) string {
			log.WriteString(" " + string(response))
			challenge, over, r := m.Next(response)
			if over {
				m = nil
				return r.String() + "\r\n"
			}
			return "334 " + smtp.EncodeSASL(challenge) + "\r\n"
		}
		answer(conn, func(line string) string {
			f := strings.Fields(line)
			switch {
			case m != nil:
				response, _ := smtp.DecodeSASL(line)
				return next(response)
			case len(f) > 1 && f[0] == "EHLO":
				return "250-mx.example\r\n250 AUTH " + offer + "\r\n"
			case len(f) > 1 && f[0] == "AUTH":
				log.WriteString(f[1])
				m = exchangeOf(f[1], conn)
				if len(f) == 2 {
					return next(nil)
				}
				response, _ := smtp.DecodeSASL(strings.TrimPrefix(f[2], "="))
				return next(response)
			}
			return polite(line)
		})
	}()
	c, err := NewConn(t.Context(), client, Options{Hello: "c.example", TLS: clientTLS("mx.example")})
	if err != nil {
		t.Fatal(err)
	}
	return c, func() string {
		c.Close()
		<-done
		return log.String()
	}
}

// exchangeOf is the server side of a mechanism, over a connection.
func exchangeOf(name string, conn *tls.Conn) smtp.SASLServer {
	reply := func(right bool) smtp.Reply {
		if right {
			return smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7}, Text: "welcome"}
		}
		return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "no"}
	}
	switch name {
	case smtp.SCRAM, smtp.SCRAMPlus:
		state := conn.ConnectionState()
		bindings := (&Conn{tls: &state}).ChannelBindings()
		k, _ := smtp.NewSCRAMKeys("pencil", []byte("salt"), 4096)
		return smtp.SCRAMServer(smtp.SCRAMServerOptions{Plus: name == smtp.SCRAMPlus, Bindings: bindings, Rand: rand.Reader,
			Keys: func(string) smtp.SCRAMKeys { return k }, Finish: func(_, _ string, proved bool) smtp.Reply { return reply(proved) }})
	case smtp.OAuthBearer:
		return smtp.BearerServer(func(r smtp.BearerRequest) (smtp.Reply, smtp.BearerError) {
			return reply(r.Token == "token"), smtp.BearerError{}
		})
	case smtp.External:
		return smtp.ExternalServer(func(string) smtp.Reply { return reply(true) })
	case "LOGIN":
		return smtp.LoginServer(func(_, password string) smtp.Reply { return reply(password == "pencil") })
	}
	return smtp.PlainServer(func(_, _, password string) smtp.Reply { return reply(password == "pencil") })
}

// TestLogin: the best mechanism of those that the peer offers and we can, and no
// other after it; the password goes out only where it may, and else nothing does.
func TestLogin(t *testing.T) {
	right := Credentials{Username: "user", Password: "pencil"}
	wrong := Credentials{Username: "user", Password: "hunter2"}
	never, only := right, right
	never.Clear, only.Clear = ClearNever, ClearOnly
	token, cert := Credentials{Username: "user", Token: "token"}, Credentials{Certificate: true}
	all := Credentials{Username: "user", Password: "pencil", Token: "token", Certificate: true}
	const every = "LOGIN PLAIN SCRAM-SHA-256 scram-sha-256-plus OAUTHBEARER EXTERNAL"
	for _, test := range []struct {
		offer string
		cred  Credentials
		name  string // of the mechanism; empty: nothing is said
		want  string
	}{
		{every, right, smtp.SCRAMPlus + " p=tls-", "ok"},
		{"LOGIN PLAIN OAUTHBEARER EXTERNAL", right, "PLAIN ", "ok"},
		{"LOGIN CRAM-MD5", right, "LOGIN ", "ok"},
		{every, only, "PLAIN ", "ok"},
		{"PLAIN LOGIN", never, "", "NeedError: AUTH SCRAM-SHA-256-PLUS or SCRAM-SHA-256"},
		{"GSSAPI", right, "", "NeedError: AUTH SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN or LOGIN"},
		{every, wrong, smtp.SCRAMPlus + " p=tls-", "535"},
		{every, token, smtp.OAuthBearer + " n,a=user,", "ok"},
		{"PLAIN", token, "", "NeedError: AUTH OAUTHBEARER"},
		{every, cert, smtp.External + " ", "ok"},
		{"PLAIN", cert, "", "NeedError: AUTH EXTERNAL"},
		{every, all, smtp.External + " user", "ok"},
		{"PLAIN", Credentials{Username: "user", Password: "pencil", Certificate: true}, "PLAIN ", "ok"}, // no word of the certificate
		{"OAUTHBEARER PLAIN SCRAM-SHA-256", all, smtp.OAuthBearer + " ", "ok"},
		{every, Credentials{}, "", "smtp: a name or password is empty"},
		// Somebody has taken PLUS out of the list, and the server says so.
		{"SCRAM-SHA-256 PLAIN", right, smtp.SCRAM + " y,,n=user", "535"},
	} {
		c, heard := mechanisms(t, test.offer)
		err := c.Login(t.Context(), test.cred)
		got := "ok"
		if need, ok := errors.AsType[*NeedError](err); ok {
			got = "NeedError: " + need.Ext
		} else if e, ok := errors.AsType[*Error](err); ok && e.Err == nil {
			got = e.Reply.String()
		} else if ok {
			got = e.Err.Error()
		}
		if usable := c.Usable(); !usable || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, want %s; usable %v", test.offer, got, test.want, usable)
		}
		said := heard()
		if !strings.HasPrefix(said, test.name) || test.name == "" && said != "" {
			t.Errorf("%s: the peer heard %q", test.offer, said)
		}
		if scram := strings.HasPrefix(said, "SCRAM"); scram && strings.Contains(said, test.cred.Password) {
			t.Errorf("%s: the password itself was said", test.offer)
		}
	}
}

// In the clear nothing is said, whatever the mechanism.
func TestLoginInTheClear(t *testing.T) {
	client, server := pair(t)
	go answer(server, func(line string) string {
		if strings.HasPrefix(line, "EHLO") {
			return "250-mx.example\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n"
		}
		return polite(line)
	})
	c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(t.Context(), Credentials{Username: "user", Password: "pencil"}); !errors.Is(err, ErrCleartext) || c.ChannelBindings() != nil {
		t.Error(err)
	}
}
