package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smartUser may relay at the smart hosts here.
const smartUser = "relay@smart.example"

// smartPostfix is a Postfix that relays for those who log in under TLS alone,
// and sends everything to next. Dovecot knows its users.
func smartPostfix(t *testing.T, next string) (*daemon, certificate) {
	d := startDovecot(t, "", smartUser)
	c := newCertificate(t, "smart.example", "127.0.0.1")
	host, port, _ := strings.Cut(next, ":")
	return startPostfix(t, "smart.example", []string{"postmaster@smart.example"}, fmt.Sprintf(`
mynetworks =
relayhost = [%s]:%s
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %s/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
`, host, port, c.cert, c.key, d.dir)), c
}

// smartExim is an Exim of that kind which knows LOGIN only.
func smartExim(t *testing.T, next string) (*daemon, certificate) {
	c := newCertificate(t, "smart.example").open(t)
	return startExim(t, "smart.example", eximConf{
		boxes: []string{"postmaster@smart.example"}, smart: strings.Replace(next, ":", "::", 1),
		main: fmt.Sprintf("tls_advertise_hosts = *\ntls_certificate = %s\ntls_privatekey = %s\n", c.cert, c.key),
		acl:  "  accept authenticated = *",
		auth: fmt.Sprintf(`
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{%s}}{eq{$auth2}{%s}}}}
  server_set_id = $auth1
  server_advertise_condition = ${if def:tls_in_cipher}
`, smartUser, dovecotPassword),
	}), c
}

// A smart host with AUTH relays for us once we have logged in, under TLS. With a
// wrong password mail waits and its reply is told; nobody sees the password.
func TestSmartHost(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) (*daemon, certificate){"Postfix": smartPostfix, "Exim": smartExim} {
		t.Run(name, func(t *testing.T) {
			need(t, "python3")
			next := newPeer(t, freeAddr(t))
			d, _ := start(t, next.addr)
			if _, err := submit(d.addr(), mail{"s@a.example", []string{"x@far.example"}, message("open-relay", 100)}); err == nil {
				t.Fatal("the smart host relays without AUTH: the test would show nothing")
			}
			a := newServer(t, "a.example", relayTo(d, `tls = "require"
  username      = "`+smartUser+`"
  password_file = "DIR/password"`))
			file := filepath.Join(a.dir, "password")
			secret(t, file, "not "+dovecotPassword)
			a.start()
			mustSubmit(t, a.addr(), mail{"s@a.example", []string{"x@far.example", "y@far.example"}, message("by-smart-host", 30_000)})
			var q []queued
			eventually(t, func() string { return fmt.Sprintf("the queue does not tell of the wrong password: %+v", q) }, func() bool {
				q = a.queue()
				return len(q) == 1 && len(q[0].Recipients) == 2 && q[0].Recipients[0].State == "deferred" && strings.Contains(q[0].Recipients[0].Reply, "535")
			})
			secret(t, file, dovecotPassword)
			a.cli("reload")
			a.cli("queue", "retry")
			eventually(t, says("nothing came through the smart host"), func() bool { return len(next.taken()) == 1 })
			a.empty()
			if got := next.taken(); len(got) != 1 || len(got[0].to) != 2 || whole(got[0].body) != nil {
				t.Errorf("%d messages came, want the one that was sent for two, whole: %v", len(got), whole(got[0].body))
			}
			a.stop()
			if strings.Contains(a.log.String(), dovecotPassword) {
				t.Error("the log tells the password")
			}
		})
	}
}

// A route that verifies sends to a smart host whose certificate is good, and to
// no other.
func TestSmartHostVerified(t *testing.T) {
	w := newWorld(t)
	next := newPeer(t, freeAddr(t))
	d, c := smartPostfix(t, next.addr)
	w.zone.A("smart.example", d.ip)
	settings := `tls = "verify"
  username      = "` + smartUser + `"
  password_file = "DIR/password"`
	for _, known := range []bool{false, true} {
		if known {
			t.Setenv("SSL_CERT_FILE", c.cert)
		}
		a := newServer(t, "a.example", relayTo(d, settings))
		a.edit(d.ip, "smart.example")
		a.add(fmt.Sprintf("dns { servers = [%q] }\n", w.dns))
		secret(t, filepath.Join(a.dir, "password"), dovecotPassword)
		a.start()
		mustSubmit(t, a.addr(), mail{"s@a.example", []string{"x@far.example"}, message("verified", 100)})
		if known {
			eventually(t, says("nothing came through the smart host"), func() bool { return len(next.taken()) == 1 })
			a.empty()
		} else {
			var q []queued
			eventually(t, func() string { return fmt.Sprintf("the queue does not tell of the certificate: %+v", q) }, func() bool {
				q = a.queue()
				return len(q) == 1 && q[0].Recipients[0].State == "deferred" && strings.Contains(q[0].Recipients[0].Reply, "certificate")
			})
		}
		a.stop()
	}
}

// secret writes a password to a file of our own.
func secret(t *testing.T, file, password string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddr is an address with a port that is free now.
func freeAddr(t *testing.T) string {
	ip := freeIP()
	return fmt.Sprintf("%s:%d", ip, freePort(t, ip))
}

// For Postfix and Exim we are a smart host with AUTH too.
func TestWeAreSmartHost(t *testing.T) {
	h := newSubmissionHost(t, "")
	h.start()
	for name, start := range map[string]func() *daemon{
		"Postfix": func() *daemon {
			return startPostfix(t, "out.example", []string{"s@out.example"}, fmt.Sprintf(`
relayhost = [%[1]s]:%[2]d
smtp_tls_security_level = verify
smtp_tls_CAfile = %[3]s
smtp_tls_verify_cert_match = hostname, a.example
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{ { [%[1]s]:%[2]d = alice@a.example:%[4]s } }
`, h.ip, h.port, h.ca, alicePassword))
		},
		"Exim": func() *daemon {
			return startExim(t, "out.example", eximConf{
				smart: fmt.Sprintf("%s::%d", h.ip, h.port), acl: "  accept hosts = 127.0.0.0/8", strict: true,
				auth: "plain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^alice@a.example^" + strings.ReplaceAll(alicePassword, ":", "::") + "\n",
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := start()
			if _, err := submit(d.addr(), mail{"alice@a.example", []string{name + "@a.example"}, message("from-"+name, 5_000)}); err != nil {
				t.Fatal(err)
			}
			h.t = t
			got := h.one("a.example", strings.ToLower(name))
			if err := whole(got); err != nil || !bytes.Contains(got, []byte("with ESMTPSA ")) {
				t.Errorf("%v, or not by ESMTPSA:\n%.800s", err, got)
			}
		})
	}
	h.t = t
	h.stop()
}

// whole returns an error when the body of a message is not what it was.
func whole(got []byte) error {
	_, err := name(got)
	return err
}
