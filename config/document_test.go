package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented are the blocks of docs/configuration.md by their headings.
var documented = map[string]shape{
	"The file": fileShape, "tls": tlsShape, "listener": listenerShape, "admin": adminShape, "dns": dnsShape, "domain": domainShape,
	"route": routeShape, "queue": queueShape, "limits": limitsShape, "journal": journalShape, "oauth": oauthShape,
}

var keyRow = regexp.MustCompile("^\\| `([a-z_]+)`( \\*)? \\| .*\\S.* \\| .*\\S.* \\|$|^\\| `([a-z_]+)`( \\*)? \\| +\\| .*\\S.* \\|$")

// TestDocument: docs/configuration.md has a row for each key of each block, and for
// nothing else, and what it shows can be loaded.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, heading := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = h
			rows[heading] = nil
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		m := keyRow.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("no row of a key: %s", line)
			continue
		}
		rows[heading] = append(rows[heading], m[1]+m[3])
	}
	for name, s := range documented {
		want := slices.Clone(s.keys)
		for block := range s.blocks {
			if name == "The file" {
				if _, ok := documented[block]; !ok {
					t.Errorf("the block %s is in no section", block)
				}
				continue
			}
			want = append(want, block)
		}
		got, twice := slices.Sorted(slices.Values(rows[name])), ""
		for i := range got[:max(len(got)-1, 0)] {
			if got[i] == got[i+1] {
				twice = got[i]
			}
		}
		if slices.Sort(want); !slices.Equal(got, want) || twice != "" {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
		delete(rows, name)
	}
	if len(rows) > 0 {
		t.Errorf("sections of nothing: %v", rows)
	}
	for i, example := range regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if _, found := Load(fmt.Sprintf("example-%d.hcl", i), []byte(example[1]), nil, nil); found.HasErrors() {
			t.Error(found)
		}
	}
}

// TestDocumentDefaults: the defaults of docs/configuration.md are those of a file that
// says nothing: with each written out a file loads to the same.
func TestDocumentDefaults(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks, heading := map[string]string{}, ""
	row := regexp.MustCompile("^\\| `([a-z_]+)`(?: \\*)? \\| `([^`]+)` \\|")
	for line := range strings.Lines(string(text)) {
		if h, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			heading = h
		}
		if m := row.FindStringSubmatch(line); m != nil && m[1] != "port" {
			blocks[heading] += m[1] + " = " + m[2] + "\n"
		}
	}
	const oauth = "issuer = \"i\"\naudience = \"a\"\nkeys = \"/jwks.json\"\n"
	load := func(file, listener, domain, route, queue, limits, journal, more string) *Config {
		src := file + "listener \"mx\" {\naddress = \":25\"\n" + listener + "}\ndomain \"d.example\" {\n" + domain + "}\nroute \"*\" {\nvia = \"mx\"\n" + route +
			"}\nqueue {\n" + queue + "}\nlimits {\n" + limits + "}\njournal {\n" + journal + "}\noauth {\n" + oauth + more + "}\n"
		cfg, found := Load("x.hcl", []byte(src), nil, testFiles())
		if found.HasErrors() {
			t.Fatal(found, src)
		}
		return cfg
	}
	said := load(blocks["The file"], blocks["listener"], blocks["domain"], strings.ReplaceAll(blocks["route"], "auth = \"best\"\n", ""), blocks["queue"],
		blocks["limits"], blocks["journal"], blocks["oauth"])
	silent := load("", "", "", "", "", "", "", "")
	if diff := difference(said, silent); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"The file", "listener", "domain", "route", "queue", "limits", "journal", "oauth"} {
		if blocks[name] == "" {
			t.Errorf("%s has no defaults: the test sees nothing", name)
		}
	}
}
