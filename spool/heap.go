package spool

// A heap keeps its least item first. It tells each item where it is, so that an
// item can be moved or removed from the middle.
type heap[T any] struct {
	items []T
	by    *order[T]
}

// An order is what heaps of one kind share.
type order[T any] struct {
	less  func(a, b T) bool
	place func(item T, i int)
}

// heapKept is how many places a heap keeps that has become empty.
const heapKept = 16

func (h *heap[T]) push(item T) {
	h.items = append(h.items, item)
	h.up(len(h.items) - 1)
}

func (h *heap[T]) remove(i int) {
	last := len(h.items) - 1
	h.items[i] = h.items[last]
	var zero T
	h.items[last] = zero
	if h.items = h.items[:last]; last == 0 && cap(h.items) > heapKept {
		h.items = nil
	}
	if i < last {
		h.fix(i)
	}
}

// fix puts the item at i where it belongs after it changed.
func (h *heap[T]) fix(i int) {
	if h.up(i) == i {
		h.down(i)
	}
}

func (h *heap[T]) up(i int) int {
	item := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !h.by.less(item, h.items[parent]) {
			break
		}
		h.put(h.items[parent], i)
		i = parent
	}
	h.put(item, i)
	return i
}

func (h *heap[T]) down(i int) {
	item := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if child+1 < len(h.items) && h.by.less(h.items[child+1], h.items[child]) {
			child++
		}
		if !h.by.less(h.items[child], item) {
			break
		}
		h.put(h.items[child], i)
		i = child
	}
	h.put(item, i)
}

func (h *heap[T]) put(item T, i int) {
	h.items[i] = item
	h.by.place(item, i)
}
