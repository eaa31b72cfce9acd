package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// config writes the configuration of a Postrider. Nothing of it makes anything
// less durable; there is no such key.
func (b *bench) config(m mode) (dir, addr string, err error) {
	if dir, err = b.folder("postrider"); err != nil {
		return "", "", err
	}
	if addr, err = freeAddr(); err != nil {
		return "", "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "hostname = \"bench.example\"\ndata_dir = %q\n", filepath.Join(dir, "data"))
	fmt.Fprintf(&text, "listener \"mx\" {\n  address = %q\n  tls = \"none\"\n  relay_from = [\"127.0.0.0/8\"]\n}\n", addr)
	fmt.Fprintf(&text, "limits {\n  message_size = \"100MiB\"\n")
	if m.conns > 0 {
		fmt.Fprintf(&text, "  connections = %d\n", m.conns)
	}
	if strings.Contains(m.extra, "RECIPIENTS") {
		fmt.Fprintf(&text, "  recipients = 1000000\n")
	}
	text.WriteString("}\n")
	if m.boxes > 0 {
		fmt.Fprintf(&text, "domain %q {\n  mailboxes = [\"*\"]\n  deliver = \"maildir:%s/mail/{user}\"\n}\n", boxDomain, dir)
	}
	text.WriteString(strings.ReplaceAll(m.extra, "# RECIPIENTS\n", ""))
	if m.next != "" {
		fmt.Fprintf(&text, "route \"*\" {\n  via = \"smtp://%s\"\n  tls = \"none\"\n}\n", m.next)
	}
	return dir, addr, os.WriteFile(filepath.Join(dir, "postrider.hcl"), []byte(text.String()), 0o600)
}

func startPostrider(b *bench, m mode) (*instance, error) {
	dir, addr, err := b.config(m)
	if err != nil {
		return nil, err
	}
	i := &instance{addr: addr, dir: dir, mail: filepath.Join(dir, "mail")}
	return i, b.serve(i)
}

// serve starts a Postrider with what is in its folder, anew or for the first time.
func (b *bench) serve(i *instance) error {
	g, err := launch("postrider", i.dir, nil, b.binary, "serve", "--config", filepath.Join(i.dir, "postrider.hcl"))
	if err != nil {
		return err
	}
	i.group = g
	if err := b.greets(g, i.addr); err != nil {
		i.stop()
		return err
	}
	return nil
}

// spoolSize is how many octets the spool takes on the disk, and in how many
// segments.
func (i *instance) spoolSize() (octets int64, segments int) {
	_ = filepath.Walk(filepath.Join(i.dir, "data", "spool"), func(name string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			octets += diskOf(fi)
			if filepath.Ext(name) == ".seg" {
				segments++
			}
		}
		return nil
	})
	return octets, segments
}
