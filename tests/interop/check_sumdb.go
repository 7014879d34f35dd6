package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxInclusions bounds how many inclusion proofs are made and checked one by one; every entry's hash is.
const maxInclusions = 300

// sumdbReport says what was checked.
type sumdbReport struct {
	Origin     string `json:"origin"`
	Size       int64  `json:"size"`
	Root       string `json:"root"`
	Entries    int64  `json:"entries"`
	Inclusions int64  `json:"inclusions"`
	OldSize    int64  `json:"oldSize"`
}

// checkSumdb checks a log with the packages behind Go's checksum database: the checkpoint's signature, every entry
// against its authenticated leaf hash, inclusion proofs, and consistency with an older checkpoint.
func checkSumdb(ctx context.Context, args []string) (any, error) {
	flags := newLogFlags("check-sumdb")
	from, key, err := flags.open(args)
	if err != nil {
		return nil, err
	}
	signed, err := from.get(ctx, "checkpoint")
	if err != nil {
		return nil, err
	}
	origin, tree, err := openCheckpoint(signed, key)
	if err != nil {
		return nil, err
	}
	report := sumdbReport{Origin: origin, Size: tree.N, Root: tree.Hash.String()}
	hashes := tlog.TileHashReader(tree, tileReader{ctx, from})
	if report.Entries, err = checkEntries(ctx, from, tree, hashes); err != nil {
		return nil, err
	}
	if report.Inclusions, err = checkInclusions(ctx, from, tree, hashes); err != nil {
		return nil, err
	}
	if *flags.old != "" {
		text, err := os.ReadFile(*flags.old)
		if err != nil {
			return nil, err
		}
		_, old, err := openCheckpoint(text, key)
		if err != nil {
			return nil, fmt.Errorf("the older checkpoint: %w", err)
		}
		if err := checkConsistency(old, tree, hashes); err != nil {
			return nil, err
		}
		report.OldSize = old.N
	}
	return report, nil
}

// openCheckpoint checks the signature of a checkpoint and reads it.
func openCheckpoint(signed []byte, key note.Verifier) (string, tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	var origin, root string
	var tree tlog.Tree
	if _, err := fmt.Sscanf(opened.Text, "%s\n%d\n%s\n", &origin, &tree.N, &root); err != nil {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	if tree.Hash, err = tlog.ParseHash(root); err != nil {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	if origin != key.Name() {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: it is of the log %s, not of %s", origin, key.Name())
	}
	return origin, tree, nil
}

// checkEntries hashes every entry and compares it with the leaf hash that the signed tree has.
func checkEntries(ctx context.Context, from source, tree tlog.Tree, hashes tlog.HashReader) (int64, error) {
	for first := int64(0); first < tree.N; first += 256 {
		entries, err := readEntries(ctx, from, tree, first/256)
		if err != nil {
			return 0, err
		}
		indexes := make([]int64, len(entries))
		for i := range entries {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return 0, fmt.Errorf("the tiles of entries %d to %d: %w", first, first+int64(len(entries))-1, err)
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != leaves[i] {
				return 0, fmt.Errorf("entry %d does not have the hash that the signed tree has", first+int64(i))
			}
		}
	}
	return tree.N, nil
}

// checkInclusions proves entries one by one, evenly spread, the first and last among them.
func checkInclusions(ctx context.Context, from source, tree tlog.Tree, hashes tlog.HashReader) (int64, error) {
	var count int64
	step := max(1, tree.N/maxInclusions)
	for n := int64(0); n < tree.N; n = next(n, step, tree.N) {
		entries, err := readEntries(ctx, from, tree, n/256)
		if err != nil {
			return 0, err
		}
		proof, err := tlog.ProveRecord(tree.N, n, hashes)
		if err != nil {
			return 0, fmt.Errorf("inclusion of entry %d: %w", n, err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(entries[n%256])); err != nil {
			return 0, fmt.Errorf("inclusion of entry %d: %w", n, err)
		}
		count++
	}
	return count, nil
}

// next is the position after n, which does not step over the last.
func next(n, step, size int64) int64 {
	if n < size-1 && n+step > size-1 {
		return size - 1
	}
	return n + step
}

func checkConsistency(old, tree tlog.Tree, hashes tlog.HashReader) error {
	if old.N > tree.N {
		return fmt.Errorf("the log shrank from %d to %d entries", old.N, tree.N)
	}
	if old.N == 0 || old.N == tree.N {
		if old.N == tree.N && old.Hash != tree.Hash {
			return errors.New("two roots are signed for one size")
		}
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return fmt.Errorf("consistency with size %d: %w", old.N, err)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("consistency with size %d: %w", old.N, err)
	}
	return nil
}

// readEntries reads the entries of one bundle, as many as the tree has.
func readEntries(ctx context.Context, from source, tree tlog.Tree, index int64) ([][]byte, error) {
	width := min(256, tree.N-index*256)
	bundle, err := from.tile(ctx, -1, index, int(width))
	if err != nil {
		return nil, err
	}
	entries, err := splitEntries(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tilePath(-1, index), err)
	}
	if int64(len(entries)) != width {
		return nil, fmt.Errorf("%s has %d entries instead of %d", tilePath(-1, index), len(entries), width)
	}
	return entries, nil
}

// tileReader hands tiles to tlog, which checks them against the signed root before it uses them.
type tileReader struct {
	ctx  context.Context
	from source
}

func (t tileReader) Height() int { return 8 }

func (t tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data, err := t.from.tile(t.ctx, tile.L, tile.N, tile.W)
		if err != nil {
			return nil, err
		}
		read[i] = data
	}
	return read, nil
}

func (t tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
