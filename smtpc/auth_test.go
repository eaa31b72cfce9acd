package smtpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gosasl "github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
)

// patient answers any number of challenges.
type patient struct{ initial []byte }

func (patient) Mechanism() string             { return "PATIENT" }
func (p patient) Start() ([]byte, error)      { return p.initial, nil }
func (patient) Next(c []byte) ([]byte, error) { return c, nil }

// TestChallengesMax: a peer that asks on and on is left after a while. RFC 4954 4:
// an initial response of zero length is "a single equals sign"; one to a challenge
// is an empty line.
func TestChallengesMax(t *testing.T) {
	client, server := pair(t)
	heard := make(chan []string, 1)
	go func() {
		var lines []string
		answer(tls.Server(server, serverTLS()), func(line string) string {
			lines = append(lines, line)
			switch {
			case line == "" && len(lines) > 1:
				return "334 AAAA\r\n"
			case strings.HasPrefix(line, "EHLO"):
				return "250-mx.example\r\n250 AUTH PATIENT\r\n"
			case strings.HasPrefix(line, "AUTH"):
				return "334 \r\n"
			case line == "AAAA":
				return "334 AAAA\r\n"
			case line == "*":
				return "501 5.7.0 Cancelled\r\n"
			}
			return polite(line)
		})
		heard <- lines[2:] // without the greeting and EHLO
	}()
	c, err := NewConn(t.Context(), client, Options{Hello: "c.example", TLS: clientTLS("mx.example")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Auth(t.Context(), patient{initial: []byte{}}); !errors.Is(err, errChallengeMany) || !c.Usable() {
		t.Errorf("%v, usable %v", err, c.Usable())
	}
	c.Close()
	lines := <-heard
	if len(lines) != challengesMax+2 || lines[0] != "AUTH PATIENT =" || lines[1] != "" || lines[len(lines)-1] != "*" {
		t.Errorf("the server heard %q", lines)
	}
}

// TestAuthCancelled: the end of the context ends a wait for a reply to STARTTLS
// and to AUTH.
func TestAuthCancelled(t *testing.T) {
	for name, do := range map[string]func(ctx context.Context, c *Conn) error{
		"STARTTLS": func(ctx context.Context, c *Conn) error { return c.StartTLS(ctx, clientTLS("mx.example")) },
		"AUTH": func(ctx context.Context, c *Conn) error {
			c.tls = &tls.ConnectionState{} // as if
			return c.Auth(ctx, smtp.PlainClient("test", "1234"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go answer(server, func(line string) string {
					switch {
					case strings.HasPrefix(line, "EHLO"):
						return "250-mx.example\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"
					case line != "":
						time.Sleep(time.Hour)
						return ""
					}
					return polite(line)
				})
				c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if err := do(ctx, c); err == nil || c.Usable() || time.Since(start) != time.Second {
					t.Errorf("%v after %v, usable %v", err, time.Since(start), c.Usable())
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// TestWithhold: only what repeats credentials is withheld.
func TestWithhold(t *testing.T) {
	for text, want := range map[string]string{
		"a = b": "a = b", "bad AHRlc3Q= bad": "(the text is withheld, for it repeats the credentials)", "": "",
	} {
		if got := withhold(smtp.Reply{Text: text}, []string{"=", "", "AHRlc3Q="}).Text; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// A keeper that asks who is there: user "test" with password "1234".
type asking struct{ keeping }

func (*asking) AuthMechanisms() []string { return []string{gosasl.Plain} }

func (*asking) Auth(string) (gosasl.Server, error) {
	return gosasl.NewPlainServer(func(identity, user, password string) error {
		if identity != "" || user != "test" || password != "1234" {
			return &gosmtp.SMTPError{Code: 535, EnhancedCode: gosmtp.EnhancedCode{5, 7, 8}, Message: "Credentials invalid"}
		}
		return nil
	}), nil
}

type asker struct{ keeper }

func (a *asker) NewSession(*gosmtp.Conn) (gosmtp.Session, error) {
	return &asking{keeping{k: &a.keeper}}, nil
}

// TestOtherAuth: STARTTLS and AUTH with a server of other people's making.
func TestOtherAuth(t *testing.T) {
	a := &asker{}
	c, err := NewConn(t.Context(), other(t, a, "tcp", func(*gosmtp.Server) {}), Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	if c.OffersAuth("PLAIN") {
		t.Error("that server offers AUTH in the clear")
	}
	if err := c.Auth(t.Context(), smtp.PlainClient("test", "1234")); !errors.Is(err, ErrCleartext) {
		t.Errorf("in the clear: %v", err)
	}
	if err := c.StartTLS(t.Context(), clientTLS("mx.example")); err != nil {
		t.Fatal(err)
	}
	err = c.Auth(t.Context(), smtp.PlainClient("test", "12345"))
	if e, ok := errors.AsType[*Error](err); !ok || e.Reply.Code != 535 || strings.Contains(err.Error(), "12345") {
		t.Errorf("with a wrong password: %v", err)
	}
	if err := c.Auth(t.Context(), smtp.PlainClient("test", "1234")); err != nil {
		t.Errorf("with the right one: %v", err)
	}
	res := c.Send(t.Context(), transaction(t, 2))
	if got, want := describe(&res), "mail 250/2.0.0 rcpt 250/2.0.0,250/2.0.0 data 354 final 250/2.0.0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}
