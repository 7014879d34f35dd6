package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// proofReport says what was proven.
type proofReport struct {
	Index int64 `json:"index"`
	Size  int64 `json:"size"`
}

// checkProof checks the proof of one record, a file in the format c2sp.org/tlog-proof, read here by that specification.
func checkProof(_ context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("check-proof", flag.ContinueOnError)
	proofFile := flags.String("proof", "", "the proof")
	recordFile := flags.String("record", "", "the record's exact bytes")
	keyFile := flags.String("key", "", "a file with the verifier key")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	key, err := readKey(*keyFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(*proofFile)
	if err != nil {
		return nil, err
	}
	record, err := os.ReadFile(*recordFile)
	if err != nil {
		return nil, err
	}
	head, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	if !found {
		return nil, errors.New("no empty line before the checkpoint")
	}
	lines := bytes.Split(head, []byte("\n"))
	if len(lines) < 2 || string(lines[0]) != "c2sp.org/tlog-proof@v1" {
		return nil, errors.New("not a proof")
	}
	if lines = lines[1:]; bytes.HasPrefix(lines[0], []byte("extra ")) {
		lines = lines[1:]
	}
	number, isIndex := bytes.CutPrefix(lines[0], []byte("index "))
	index, err := strconv.ParseInt(string(number), 10, 64)
	if !isIndex || err != nil {
		return nil, fmt.Errorf("no index: %q", lines[0])
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(string(line))
		if err != nil {
			return nil, err
		}
		proof = append(proof, hash)
	}
	_, tree, err := openCheckpoint(checkpoint, key)
	if err != nil {
		return nil, err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(record)); err != nil {
		return nil, fmt.Errorf("inclusion of entry %d: %w", index, err)
	}
	return proofReport{index, tree.N}, nil
}
