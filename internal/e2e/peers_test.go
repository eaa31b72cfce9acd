package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A daemon is a mail program of other people, run by the test with a folder, a
// configuration and addresses of its own. It is gone when the test ends.
type daemon struct {
	t     *testing.T
	name  string
	dir   string // everything it writes; others may look in
	ip    string
	port  int
	files []string // logs, told when the test has failed

	cmd  *exec.Cmd
	done chan struct{}
	out  *buffer
}

// addr is where it takes mail.
func (d *daemon) addr() string { return net.JoinHostPort(d.ip, strconv.Itoa(d.port)) }

// newDaemon gives it a folder and an address. Most of them want root, because
// they write as users of their own.
func newDaemon(t *testing.T, name string) *daemon {
	t.Helper()
	if os.Getuid() != 0 {
		miss(t, "%s wants to be started by root", name)
	}
	if !linux() {
		miss(t, "%s is one of a Debian package", name)
	}
	d := &daemon{t: t, name: name, dir: publicDir(t), ip: freeIP(), out: &buffer{}}
	d.port = freePort(t, d.ip)
	return d
}

// publicDir is a short-lived folder that every user may enter, with a name
// short enough for the path of a socket.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write writes a file below its folder and returns the name.
func (d *daemon) write(name, text string) string {
	d.t.Helper()
	name = filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		d.t.Fatal(err)
	}
	text = strings.NewReplacer("DIR", d.dir, "IP", d.ip, "PORT", strconv.Itoa(d.port)).Replace(text)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return name
}

// mkdir makes a folder below its folder that belongs to a user and a group.
func (d *daemon) mkdir(name string, mode os.FileMode, owner, group string) string {
	d.t.Helper()
	name = filepath.Join(d.dir, name)
	if err := os.MkdirAll(name, 0o755); err != nil {
		d.t.Fatal(err)
	}
	u, err := user.Lookup(owner)
	if err != nil {
		miss(d.t, "%s: %v", d.name, err)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		miss(d.t, "%s: %v", d.name, err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(g.Gid)
	if err := os.Chown(name, uid, gid); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		d.t.Fatal(err)
	}
	return name
}

// start runs it and returns when ready says so.
func (d *daemon) start(ready func() bool, env []string, name string, args ...string) {
	d.t.Helper()
	d.cmd = exec.Command(name, args...)
	d.cmd.Dir = d.dir
	d.cmd.Env = append(environment(), env...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as the leader of a group, which ends with it
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan struct{})
	go func() {
		d.cmd.Wait()
		close(d.done)
	}()
	d.t.Cleanup(d.end)
	eventually(d.t, says("%s does not come up", d.name), func() bool {
		select {
		case <-d.done:
			d.t.Fatalf("%s ended: %v\n%s", d.name, d.cmd.ProcessState, d.out)
		default:
		}
		return ready()
	})
}

// greets reports whether it says 220.
func (d *daemon) greets() bool {
	c, err := dial(d.addr())
	if err != nil {
		return false
	}
	c.say("QUIT")
	c.close()
	return true
}

// end stops it and all that it has started.
func (d *daemon) end() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(5 * time.Second):
	}
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
	if !d.t.Failed() {
		return
	}
	d.t.Logf("output of %s:\n%s", d.name, d.out)
	for _, f := range d.files {
		b, err := os.ReadFile(f)
		d.t.Logf("%s of %s (%v):\n%s", filepath.Base(f), d.name, err, b[max(0, len(b)-8000):])
	}
}

// maildir returns what lies in a Maildir that it writes, DIR/mail/DOMAIN/USER.
func (d *daemon) maildir(domain, user string) [][]byte {
	d.t.Helper()
	return readMaildir(d.t, filepath.Join(d.dir, "mail", domain, user))
}

// arrived waits for n messages in a Maildir that it writes and returns their
// names, whole ones only.
func (d *daemon) arrived(domain, user string, n int) []string {
	d.t.Helper()
	var box [][]byte
	eventually(d.t, func() string {
		return d.name + ": too few messages for " + user + "@" + domain + ": " + strconv.Itoa(len(box))
	}, func() bool {
		box = d.maildir(domain, user)
		return len(box) >= n
	})
	return names(d.t, box)
}

// names returns the names of messages that must be whole.
func names(t *testing.T, box [][]byte) []string {
	t.Helper()
	var all []string
	for _, b := range box {
		n, err := name(b)
		if err != nil {
			t.Error(err)
		}
		all = append(all, n)
	}
	return all
}

// peersDir is where .ci/run unpacks the programs that cannot be installed side
// by side.
func peersDir() string {
	if dir := os.Getenv("POSTRIDER_PEERS"); dir != "" {
		return dir
	}
	return "/var/tmp/postrider-peers"
}

// unpacked returns the name of a program of a package in peersDir.
func unpacked(t *testing.T, pkg, program string) string {
	t.Helper()
	name := filepath.Join(peersDir(), pkg, program)
	if _, err := os.Stat(name); err != nil {
		miss(t, "%s is not unpacked: %v", pkg, err)
	}
	return name
}

// A certificate names itself as the authority, and is good for a day.
type certificate struct{ cert, key string }

// newCertificate writes one for host names and addresses.
func newCertificate(t *testing.T, hosts ...string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			x.IPAddresses = append(x.IPAddresses, ip)
		} else {
			x.DNSNames = append(x.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := publicDir(t)
	c := certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{c.cert: {Type: "CERTIFICATE", Bytes: der}, c.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// open lets a daemon read the certificate as its own user.
func (c certificate) open(t *testing.T) certificate {
	t.Helper()
	for _, name := range []string{c.cert, c.key} {
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
