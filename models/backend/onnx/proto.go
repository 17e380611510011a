package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message being written. Field numbers are those of onnx.proto3
// (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3); only the fields used here are written.
type message []byte

func (m *message) int(field protowire.Number, v int64) {
	*m = protowire.AppendTag(*m, field, protowire.VarintType)
	*m = protowire.AppendVarint(*m, uint64(v))
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendTag(*m, field, protowire.Fixed32Type)
	*m = protowire.AppendFixed32(*m, math.Float32bits(v))
}

func (m *message) bytes(field protowire.Number, v []byte) {
	*m = protowire.AppendTag(*m, field, protowire.BytesType)
	*m = protowire.AppendBytes(*m, v)
}

func (m *message) string(field protowire.Number, v string) { m.bytes(field, []byte(v)) }

// TensorProto.DataType.
const (
	protoFloat    = 1
	protoInt64    = 7
	protoBool     = 9
	protoFloat16  = 10
	protoDouble   = 11
	protoBFloat16 = 16
)

// attribute is an AttributeProto: v is a float32, string, int, or []int.
func attribute(name string, v any) message {
	const float, integer, str, integers = 1, 2, 3, 7
	var m message
	m.string(1, name)
	switch v := v.(type) {
	case float32:
		m.float(2, v)
		m.int(20, float)
	case string:
		m.string(4, v)
		m.int(20, str)
	case int:
		m.int(3, int64(v))
		m.int(20, integer)
	case []int:
		for _, n := range v {
			m.int(8, int64(n))
		}
		m.int(20, integers)
	}
	return m
}

// tensor is a TensorProto without its data.
func tensor(name string, dataType int, dims []int) message {
	var m message
	for _, d := range dims {
		m.int(1, int64(d))
	}
	m.int(2, int64(dataType))
	m.string(8, name)
	return m
}

// external makes a TensorProto refer to a part of a file.
func (m *message) external(location string, offset, length string) {
	for _, kv := range [][2]string{{"location", location}, {"offset", offset}, {"length", length}} {
		var entry message
		entry.string(1, kv[0])
		entry.string(2, kv[1])
		m.bytes(13, entry)
	}
	m.int(14, 1) // DataLocation.EXTERNAL
}

func floatData(v []float32) []byte {
	p := make([]byte, 0, 4*len(v))
	for _, x := range v {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(x))
	}
	return p
}

func intData(v []int) []byte {
	p := make([]byte, 0, 8*len(v))
	for _, x := range v {
		p = binary.LittleEndian.AppendUint64(p, uint64(x))
	}
	return p
}

// valueInfo is a ValueInfoProto; dimension names stand for symbolic dims.
func valueInfo(name string, dataType int, dims []int, symbols []string) message {
	var shape, tensorType, typ, m message
	for i, d := range dims {
		var dim message
		if d >= 0 {
			dim.int(1, int64(d))
		} else {
			dim.string(2, symbols[i])
		}
		shape.bytes(1, dim)
	}
	tensorType.int(1, int64(dataType))
	tensorType.bytes(2, shape)
	typ.bytes(1, tensorType)
	m.string(1, name)
	m.bytes(2, typ)
	return m
}
