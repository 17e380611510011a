package safetensors

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner reads the JSON that a header is made of: objects, strings and lists of whole numbers. With a general decoder it took more than twice as
// long to open a LoRA's file of 256 tensors.
type scanner struct {
	json   []byte
	at     int
	buffer []byte // of the last string that had to be decoded
}

func (s *scanner) skipSpace() {
	for s.at < len(s.json) && (s.json[s.at] == ' ' || s.json[s.at] == '\n' || s.json[s.at] == '\t' || s.json[s.at] == '\r') {
		s.at++
	}
}

// next takes c, behind white space, if it is what comes next.
func (s *scanner) next(c byte) bool {
	s.skipSpace()
	if s.at == len(s.json) || s.json[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) lacks(what string) error { return fmt.Errorf("%s is missing at byte %d", what, s.at) }

// object reads an object: value reads what stands behind each name, which is good until the next string is read.
func (s *scanner) object(value func(name []byte) error) error {
	if !s.next('{') {
		return s.lacks("'{'")
	}
	for first := true; !s.next('}'); first = false {
		if !first && !s.next(',') {
			return s.lacks("',' or '}'")
		}
		name, err := s.string()
		if err != nil {
			return err
		}
		if !s.next(':') {
			return s.lacks("':'")
		}
		if err := value(name); err != nil {
			return err
		}
	}
	return nil
}

// string reads a string, which is good until the next one is read.
func (s *scanner) string() ([]byte, error) {
	if !s.next('"') {
		return nil, s.lacks(`'"'`)
	}
	begin, plain := s.at, true
	for ; s.at < len(s.json); s.at++ {
		switch c := s.json[s.at]; {
		case c == '"':
			s.at++
			if plain {
				return s.json[begin : s.at-1], nil
			}
			var err error
			s.buffer, err = jsontext.AppendUnquote(s.buffer[:0], s.json[begin-1:s.at])
			return s.buffer, err
		case c == '\\':
			plain = false
			s.at++
		case c < ' ' || c > '~':
			plain = false
		}
	}
	s.at = len(s.json)
	return nil, s.lacks("the end of a string")
}

// numbers reads a list of whole numbers, never nil.
func (s *scanner) numbers() ([]uint64, error) {
	if !s.next('[') {
		return nil, s.lacks("'['")
	}
	list := make([]uint64, 0, 4)
	for !s.next(']') {
		if len(list) > 0 && !s.next(',') {
			return nil, s.lacks("',' or ']'")
		}
		s.skipSpace()
		begin := s.at
		for s.at < len(s.json) && s.json[s.at] >= '0' && s.json[s.at] <= '9' {
			s.at++
		}
		digits := s.json[begin:s.at]
		n, err := strconv.ParseUint(string(digits), 10, 64)
		if err != nil || len(digits) > 1 && digits[0] == '0' {
			return nil, fmt.Errorf("no whole number at byte %d", begin)
		}
		list = append(list, n)
	}
	return list, nil
}
