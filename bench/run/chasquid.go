package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/dns"
)

// chasquidText is the configuration of a chasquid that listens at one address and
// keeps everything in its folder.
const chasquidText = `hostname: "bench.example"
smtp_address: %q
data_dir: %q
mail_log_path: %q
max_data_size_mb: 100
`

// chasquidTo is an address of its own domain, and an alias for one of the sink's. It
// relays for nobody else who has no account, and accounts are for TLS alone.
const chasquidTo = "r@bench.example"

// chasquidMisses is the share of messages that it may refuse: it holds no more than
// 200, and answers 451 to the rest.
const chasquidMisses = 0.5

func (b *bench) hasChasquid() bool {
	return os.Getuid() == 0 && b.unpacked("chasquid/usr/bin/chasquid")
}

// chasquid is the contender, if it is there, with a name server of its own: it goes
// by MX records alone, and asks for those of other kinds too.
func (b *bench) chasquid(h *hole) (all []contender, err error) {
	if !b.hasChasquid() {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(h.addr)
	if err != nil {
		return nil, err
	}
	zone := dns.NewZone().MX("sink.example", 10, "mx.sink.example").A("mx.sink.example", host)
	names := freeIP()
	if _, err := b.nameServer(names+":53", zone); err != nil {
		return nil, err
	}
	return []contender{{"chasquid", 0.1, func(b *bench, m mode) (*instance, error) { return startChasquid(b, m, names) }}}, nil
}

func startChasquid(b *bench, m mode, names string) (*instance, error) {
	dir, err := b.folder("chasquid")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf, resolv := filepath.Join(dir, "conf"), filepath.Join(dir, "resolv.conf")
	cert, key, err := selfSigned("bench.example")
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		resolv:                                      "nameserver " + names + "\n",
		conf + "/chasquid.conf":                     fmt.Sprintf(chasquidText, addr, dir+"/data", dir+"/mail.log"),
		conf + "/domains/bench.example/aliases":     "r: r@sink.example\n",
		conf + "/certs/bench.example/fullchain.pem": cert,
		conf + "/certs/bench.example/privkey.pem":   key,
		dir + "/data/made":                          "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(m.next)
	if err != nil {
		return nil, err
	}
	i := &instance{addr: addr, dir: dir, to: chasquidTo, misses: chasquidMisses}
	// It knows no other resolver than that of the system, so it gets a file of its own in its place.
	if i.group, err = launch("chasquid", dir, nil, "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolv,
		filepath.Join(b.peers, "chasquid/usr/bin/chasquid"), "-config_dir", conf, "-logfile", dir+"/log", "-testing__outgoing_smtp_port", port); err != nil {
		return nil, err
	}
	if err := b.greets(i.group, addr); err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// selfSigned makes a certificate and its key, in PEM.
func selfSigned(host string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	in := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return in("CERTIFICATE", der), in("PRIVATE KEY", secret), nil
}
