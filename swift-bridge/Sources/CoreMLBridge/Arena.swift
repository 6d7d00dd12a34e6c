// Memory of results: plain C data that lives as long as the handle that owns it.

import Foundation

/// Memory that is freed all at once.
final class Arena {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit {
        for block in blocks { block.deallocate() }
    }

    /// Room for this many bytes, aligned for every element type and for vector instructions.
    func bytes(_ count: Int) -> UnsafeMutableRawPointer {
        let block = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64)
        blocks.append(block)
        return block
    }

    /// A copy of the elements; nil for none.
    func list<T>(_ elements: [T]) -> UnsafePointer<T>? {
        if elements.isEmpty { return nil }
        let place = bytes(MemoryLayout<T>.stride * elements.count).bindMemory(to: T.self, capacity: elements.count)
        place.initialize(from: elements, count: elements.count)
        return UnsafePointer(place)
    }

    /// A copy of one value.
    func one<T>(_ value: T) -> UnsafePointer<T> {
        let place = bytes(MemoryLayout<T>.stride).bindMemory(to: T.self, capacity: 1)
        place.initialize(to: value)
        return UnsafePointer(place)
    }

    /// A copy of the text, ending in NUL.
    func text(_ text: String) -> UnsafePointer<CChar> {
        let utf8 = Array(text.utf8CString)
        let place = bytes(utf8.count).bindMemory(to: CChar.self, capacity: utf8.count)
        place.initialize(from: utf8, count: utf8.count)
        return UnsafePointer(place)
    }

    /// Copies of the texts; nil for none.
    func texts(_ texts: [String]) -> UnsafePointer<UnsafePointer<CChar>?>? {
        list(texts.map { text in Optional(self.text(text)) })
    }
}
