package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// madeReport says what a made log holds.
type madeReport struct {
	Size int64  `json:"size"`
	Root string `json:"root"`
}

// makeSumdb writes a log as a tlog-tiles directory with the packages behind Go's checksum database. Its entries are no
// JSON, and some are empty. With -old, the checkpoint of that smaller size is left as DIR/../old-checkpoint.
func makeSumdb(_ context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("make-sumdb", flag.ContinueOnError)
	dir := flags.String("dir", "", "the directory, which must not exist")
	size := flags.Int64("size", 0, "entries")
	old := flags.Int64("old", -1, "the size of an older checkpoint to sign")
	origin := flags.String("origin", "sumdb.example/log", "the log's origin and key name")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	secret, public, err := note.GenerateKey(rand.Reader, *origin)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	var stored storedHashes
	var entries [][]byte
	for n := range *size {
		entry := entryOf(n)
		hashes, err := tlog.StoredHashes(n, entry, stored)
		if err != nil {
			return nil, err
		}
		stored = append(stored, hashes...)
		entries = append(entries, entry)
	}
	for _, tile := range tlog.NewTiles(8, 0, *size) {
		data, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			return nil, err
		}
		if err := writeTile(*dir, tile.L, tile.N, tile.W, data); err != nil {
			return nil, err
		}
	}
	for first := int64(0); first < *size; first += 256 {
		var bundle []byte
		width := min(256, *size-first)
		for _, entry := range entries[first : first+width] {
			bundle = appendEntry(bundle, entry)
		}
		if err := writeTile(*dir, -1, first/256, int(width), bundle); err != nil {
			return nil, err
		}
	}
	if *old >= 0 {
		if _, err := writeCheckpoint(filepath.Join(*dir, "..", "old-checkpoint"), *origin, *old, stored, signer); err != nil {
			return nil, err
		}
	}
	if err := writeFile(filepath.Join(*dir, "log.vkey"), []byte(public+"\n")); err != nil {
		return nil, err
	}
	root, err := writeCheckpoint(filepath.Join(*dir, "checkpoint"), *origin, *size, stored, signer)
	if err != nil {
		return nil, err
	}
	return madeReport{*size, root.String()}, nil
}

// entryOf is the content of an entry: bytes of every kind, of many lengths, every eleventh empty.
func entryOf(n int64) []byte {
	entry := make([]byte, n%11*7)
	for i := range entry {
		entry[i] = byte(int64(i)*31 + n)
	}
	return entry
}

func writeCheckpoint(path, origin string, size int64, hashes tlog.HashReader, signer note.Signer) (tlog.Hash, error) {
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return root, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return root, err
	}
	return root, writeFile(path, signed)
}

func writeTile(dir string, level int, index int64, width int, data []byte) error {
	path := tilePath(level, index)
	if width < 256 {
		path = fmt.Sprintf("%s.p/%d", path, width)
	}
	return writeFile(filepath.Join(dir, filepath.FromSlash(path)), data)
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// storedHashes keeps all hashes of a tree in memory, in tlog's order.
type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(s)) {
			return nil, fmt.Errorf("there is no stored hash %d", index)
		}
		hashes[i] = s[index]
	}
	return hashes, nil
}
