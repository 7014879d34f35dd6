package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// This file was written from schema/evidence.md and nothing else of Writ.

const (
	evidenceFormat   = "writ-evidence/v1"
	maxEvidenceBytes = 512 << 20
	maxEntries       = 1_000_000
	maxRecordBytes   = 65_535
)

// bundleReport says what a bundle proves.
type bundleReport struct {
	Records int    `json:"records"`
	Size    int64  `json:"size"`
	Sealed  bool   `json:"sealed"`
	Result  string `json:"result"`
}

// checkBundle checks an evidence bundle.
func checkBundle(_ context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("check-bundle", flag.ContinueOnError)
	file := flags.String("bundle", "", "the bundle")
	keyFile := flags.String("key", "", "a file with the trusted verifier key")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	vkey, err := os.ReadFile(*keyFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return nil, err
	}
	bundle, err := readBundle(text)
	if err != nil {
		return nil, err
	}
	return bundle.check(strings.TrimSpace(string(vkey)))
}

// evidence is a bundle as it stands in its file.
type evidence struct {
	format, vkey, checkpoint string
	manifest                 map[string]json.RawMessage
	digests                  map[string]string
	entries                  []entry
	hashes                   []tlog.Hash
	keys                     json.RawMessage
	seal                     *string
}

type entry struct {
	index  uint64
	record string
	leaf   tlog.Hash
}

func readBundle(text []byte) (*evidence, error) {
	if len(text) > maxEvidenceBytes {
		return nil, errors.New("the bundle is too large")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the bundle is not UTF-8")
	}
	members, err := object(text, []string{"format", "manifest", "vkey", "checkpoint", "entries", "hashes", "keys"}, "seal")
	if err != nil {
		return nil, err
	}
	bundle := evidence{keys: members["keys"]}
	if bundle.format, err = str(members["format"]); err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	if bundle.vkey, err = str(members["vkey"]); err != nil {
		return nil, fmt.Errorf("vkey: %w", err)
	}
	if bundle.checkpoint, err = str(members["checkpoint"]); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if seal, sealed := members["seal"]; sealed {
		text, err := str(seal)
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		bundle.seal = &text
	}
	if bundle.manifest, err = object(members["manifest"], []string{"subject", "query", "result", "time", "digests"}); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := bundle.readDigests(); err != nil {
		return nil, err
	}
	if err := bundle.readEntries(members["entries"]); err != nil {
		return nil, err
	}
	hashes, err := array(members["hashes"])
	if err != nil {
		return nil, fmt.Errorf("hashes: %w", err)
	}
	for _, member := range hashes {
		hash, err := hashOf(member)
		if err != nil {
			return nil, fmt.Errorf("hashes: %w", err)
		}
		bundle.hashes = append(bundle.hashes, hash)
	}
	return &bundle, nil
}

// digestNames are the parts with digests, sorted.
var digestNames = []string{"checkpoint", "entries", "hashes", "keys", "query", "result", "subject", "time", "vkey"}

func (b *evidence) readDigests() error {
	digests, err := object(b.manifest["digests"], digestNames)
	if err != nil {
		return fmt.Errorf("digests: %w", err)
	}
	b.digests = map[string]string{}
	for name, member := range digests {
		if b.digests[name], err = str(member); err != nil {
			return fmt.Errorf("digest %s: %w", name, err)
		}
	}
	return nil
}

func (b *evidence) readEntries(text json.RawMessage) error {
	members, err := array(text)
	if err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	if len(members) > maxEntries {
		return errors.New("entries: too many")
	}
	for position, member := range members {
		fields, err := object(member, []string{"index", "record", "leaf"})
		if err != nil {
			return fmt.Errorf("entry %d: %w", position, err)
		}
		var e entry
		if err := json.Unmarshal(fields["index"], &e.index); err != nil {
			return fmt.Errorf("entry %d: %w", position, err)
		}
		if e.record, err = str(fields["record"]); err != nil {
			return fmt.Errorf("entry %d: %w", position, err)
		}
		if e.leaf, err = hashOf(fields["leaf"]); err != nil {
			return fmt.Errorf("entry %d: %w", position, err)
		}
		b.entries = append(b.entries, e)
	}
	return nil
}

// check does the steps of the page, in its order.
func (b *evidence) check(vkey string) (any, error) {
	if b.format != evidenceFormat {
		return nil, fmt.Errorf("the format is %q", b.format)
	}
	if b.vkey != vkey {
		return nil, fmt.Errorf("the bundle is of the key %s", b.vkey)
	}
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	_, tree, err := openCheckpoint([]byte(b.checkpoint), key)
	if err != nil {
		return nil, err
	}
	if err := b.checkEntries(uint64(tree.N)); err != nil {
		return nil, err
	}
	if err := b.checkDigests(); err != nil {
		return nil, err
	}
	rest := b.hashes
	root, err := rangeHash(0, uint64(tree.N), b.entries, &rest)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errors.New("the proof has hashes left over")
	}
	if root != tree.Hash {
		return nil, errors.New("the records and hashes do not lead to the checkpoint's root")
	}
	if b.seal != nil {
		opened, err := note.Open([]byte(*b.seal), note.VerifierList(key))
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		if opened.Text != evidenceFormat+"\n"+b.manifestDigest()+"\n" {
			return nil, errors.New("seal: it is of another manifest")
		}
	}
	return bundleReport{len(b.entries), tree.N, b.seal != nil, string(b.manifest["result"])}, nil
}

func (b *evidence) checkEntries(size uint64) error {
	for position, e := range b.entries {
		if e.index >= size || position > 0 && e.index <= b.entries[position-1].index {
			return fmt.Errorf("entry %d (record %d) is out of place", position, e.index)
		}
		isObject := strings.HasPrefix(e.record, "{") && strings.HasSuffix(e.record, "}") && json.Valid([]byte(e.record))
		if !isObject || strings.ContainsAny(e.record, "\n\x00") || len(e.record) > maxRecordBytes {
			return fmt.Errorf("record %d is no record", e.index)
		}
		if tlog.RecordHash([]byte(e.record)) != e.leaf {
			return fmt.Errorf("record %d was altered", e.index)
		}
	}
	return nil
}

func (b *evidence) checkDigests() error {
	entries, hashes := sha256.New(), sha256.New()
	for _, e := range b.entries {
		entries.Write(binary.BigEndian.AppendUint64(nil, e.index))
		entries.Write(e.leaf[:])
	}
	for _, hash := range b.hashes {
		hashes.Write(hash[:])
	}
	found := map[string]string{
		"checkpoint": digest([]byte(b.checkpoint)),
		"entries":    hex.EncodeToString(entries.Sum(nil)),
		"hashes":     hex.EncodeToString(hashes.Sum(nil)),
		"keys":       digest(b.keys),
		"vkey":       digest([]byte(b.vkey)),
	}
	for _, name := range []string{"query", "result", "subject", "time"} {
		found[name] = digest(b.manifest[name])
	}
	for _, name := range digestNames {
		if b.digests[name] != found[name] {
			return fmt.Errorf("%s was altered: it does not have its digest", name)
		}
	}
	return nil
}

func (b *evidence) manifestDigest() string {
	var lines strings.Builder
	for _, name := range digestNames {
		fmt.Fprintf(&lines, "%s %s\n", name, b.digests[name])
	}
	return digest([]byte(lines.String()))
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// rangeHash is the hash of the leaves low..high, with the entries among them.
func rangeHash(low, high uint64, entries []entry, hashes *[]tlog.Hash) (tlog.Hash, error) {
	switch {
	case len(entries) == 0 && low == high:
		return tlog.Hash(sha256.Sum256(nil)), nil
	case len(entries) == 0:
		if len(*hashes) == 0 {
			return tlog.Hash{}, errors.New("the proof has too few hashes")
		}
		hash := (*hashes)[0]
		*hashes = (*hashes)[1:]
		return hash, nil
	case high-low == 1:
		return entries[0].leaf, nil
	}
	half := uint64(1)
	for half*2 < high-low {
		half *= 2
	}
	split := 0
	for split < len(entries) && entries[split].index < low+half {
		split++
	}
	left, err := rangeHash(low, low+half, entries[:split], hashes)
	if err != nil {
		return left, err
	}
	right, err := rangeHash(low+half, high, entries[split:], hashes)
	return tlog.NodeHash(left, right), err
}

// object reads a JSON object that has each of the required members once, optional ones at most once, and no others. Values
// are their exact text.
func object(text []byte, required []string, optional ...string) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	known := map[string]bool{}
	for _, name := range append(required, optional...) {
		known[name] = true
	}
	members := map[string]json.RawMessage{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key, _ := name.(string)
		if _, repeated := members[key]; repeated || !known[key] {
			return nil, fmt.Errorf("the member %q is repeated or unknown", key)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		members[key] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	for _, name := range required {
		if _, there := members[name]; !there {
			return nil, fmt.Errorf("the member %q is missing", name)
		}
	}
	return members, nil
}

// array reads a JSON array. Go takes null for one; this does not.
func array(text json.RawMessage) ([]json.RawMessage, error) {
	if !bytes.HasPrefix(text, []byte("[")) {
		return nil, errors.New("not an array")
	}
	var members []json.RawMessage
	return members, json.Unmarshal(text, &members)
}

// str reads a JSON string. Go takes null for one; this does not.
func str(text json.RawMessage) (string, error) {
	if !bytes.HasPrefix(text, []byte(`"`)) {
		return "", errors.New("not a string")
	}
	var read string
	return read, json.Unmarshal(text, &read)
}

func hashOf(text json.RawMessage) (tlog.Hash, error) {
	encoded, err := str(text)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.ParseHash(encoded)
}
