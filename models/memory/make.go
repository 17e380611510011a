package memory

import (
	"syscall"
	"unsafe"
)

// largePage is the size of the kernel's large pages, in bytes.
const largePage = 2 << 20

// Make is make([]T, n), and asks the kernel to give what is new of a large one in large pages, with those at its ends: a piece of 3 MB is 800
// small ones, and to be given them takes longer than to fill them. Where the kernel gives none, nothing is different.
func Make[T any](n int) []T {
	s := make([]T, n)
	if size := uintptr(n) * unsafe.Sizeof(*new(T)); size >= largePage {
		begin := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
		end := (begin + size + largePage - 1) &^ (largePage - 1)
		begin &^= largePage - 1
		syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_HUGEPAGE) // advice, which may be refused
	}
	return s
}
