package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/postrider/postrider/route"
)

// A reader turns one file into a Config and gathers what is wrong with it.
type reader struct {
	file  string
	src   string
	eval  *hcl.EvalContext
	files route.Files // nil: no file is looked at
	diags Diagnostics
}

// A body is the inside of a block, or the whole file, with the keys and blocks
// that may stand in it.
type body struct {
	*reader
	what   string // for messages: `listener "mx"`; empty: the file
	rng    hcl.Range
	attrs  hcl.Attributes
	blocks hcl.Blocks
}

// A shape is what a body may hold: keys, and blocks with the name of their label
// or "" for none.
type shape struct {
	keys   []string
	blocks map[string]string
}

// names returns everything that may stand in the shape, sorted.
func (s shape) names() []string {
	all := slices.Clone(s.keys)
	for name := range s.blocks {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// open reads what of b has the shape, and notes the rest as unknown.
func (r *reader) open(b hcl.Body, what string, rng hcl.Range, s shape) body {
	schema := &hcl.BodySchema{}
	for _, key := range s.keys {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: key})
	}
	for _, name := range s.names() {
		if label, is := s.blocks[name]; is {
			h := hcl.BlockHeaderSchema{Type: name}
			if label != "" {
				h.LabelNames = []string{label}
			}
			schema.Blocks = append(schema.Blocks, h)
		}
	}
	content, rest, found := b.PartialContent(schema)
	r.adopt(found)
	r.unknown(rest, what, s)
	return body{reader: r, what: what, rng: rng, attrs: content.Attributes, blocks: content.Blocks}
}

// unknown notes the keys and blocks that nobody asked for.
func (r *reader) unknown(rest hcl.Body, what string, s shape) {
	in := ""
	if what != "" {
		in = " in " + what
	}
	// JustAttributes complains of blocks, which are looked at below.
	attrs, _ := rest.JustAttributes()
	for name, attr := range attrs {
		if label, is := s.blocks[name]; is {
			r.errorf(attr.NameRange, "Write "+example(name, label)+", without the equals sign.", "%s is a block, not a key", name)
			continue
		}
		r.errorf(attr.NameRange, didYouMean(name, s.names()), "unknown key %q%s", name, in)
	}
	native, ok := rest.(*hclsyntax.Body)
	if !ok {
		return
	}
	for _, block := range native.Blocks {
		if _, is := s.blocks[block.Type]; is {
			continue
		}
		if slices.Contains(s.keys, block.Type) {
			r.errorf(block.TypeRange, "Write "+block.Type+" = VALUE.", "%s is a key, not a block", block.Type)
			continue
		}
		r.errorf(block.TypeRange, didYouMean(block.Type, s.names()), "unknown block %q%s", block.Type, in)
	}
}

func example(block, label string) string {
	if label == "" {
		return block + " { ... }"
	}
	return fmt.Sprintf("%s %q { ... }", block, strings.ToUpper(label))
}

// only returns the block of a type that may stand once.
func (b body) only(name string) (*hcl.Block, bool) {
	var first *hcl.Block
	for _, block := range b.blocks.OfType(name) {
		if first != nil {
			b.errorf(block.DefRange, fmt.Sprintf("The first is in line %d: write everything there.", first.DefRange.Start.Line),
				"a second %s block", name)
			continue
		}
		first = block
	}
	return first, first != nil
}

// labelled returns the blocks of a type with their names.
func (b body) labelled(name string) hcl.Blocks { return b.blocks.OfType(name) }

// labelRange is where the label of a block stands.
func labelRange(block *hcl.Block) hcl.Range {
	if len(block.LabelRanges) > 0 {
		return block.LabelRanges[0]
	}
	return block.DefRange
}
