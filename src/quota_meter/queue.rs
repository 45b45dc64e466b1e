//! The line of waiting calls: ordered by key, with the cost of all that stand before any one of them.
//!
//! A treap over a slab: insert, remove, first and [`ahead_of`](Queue::ahead_of) in O(log n) expected, no allocation
//! beyond the slab's own growth.

use slab::Slab;

use super::cost::Cost;

/// Place in the line: lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// 0 is the most urgent.
    pub(super) class: u8,
    pub(super) seq: u64,
    /// Tells apart two waiting attempts of one call, as hedging makes them.
    pub(super) tie: u64,
}

#[derive(Debug)]
struct Node<T> {
    place: Place,
    cost: Cost,
    value: T,
    weight: u32,
    left: Option<usize>,
    right: Option<usize>,
    /// Cost and count of the whole subtree.
    sum: Cost,
    count: usize,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    nodes: Slab<Node<T>>,
    root: Option<usize>,
    weights: u32,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { nodes: Slab::new(), root: None, weights: 0x9E37_79B9 }
    }
}

impl<T: Copy> Queue<T> {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert(&mut self, place: Place, cost: Cost, value: T) {
        let weight = self.next_weight();
        let node = self.nodes.insert(Node { place, cost, value, weight, left: None, right: None, sum: cost, count: 1 });
        let (before, after) = self.split(self.root, place);
        let left = self.merge(before, Some(node));
        self.root = self.merge(left, after);
    }

    pub(super) fn first(&self) -> Option<(Place, Cost, T)> {
        let mut at = self.root?;
        while let Some(left) = self.nodes[at].left {
            at = left;
        }
        let node = &self.nodes[at];
        Some((node.place, node.cost, node.value))
    }

    /// The first of one class.
    pub(super) fn first_of(&self, class: u8) -> Option<(Place, Cost, T)> {
        let (mut found, mut next) = (None, self.root);
        while let Some(at) = next {
            let node = &self.nodes[at];
            if node.place.class < class {
                next = node.right;
            } else {
                found = Some(at);
                next = node.left;
            }
        }
        let node = &self.nodes[found?];
        (node.place.class == class).then_some((node.place, node.cost, node.value))
    }

    /// The class of the last in line.
    pub(super) fn last_class(&self) -> Option<u8> {
        let mut at = self.root?;
        while let Some(right) = self.nodes[at].right {
            at = right;
        }
        Some(self.nodes[at].place.class)
    }

    /// Takes out whoever stands at exactly this place.
    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        let (before, rest) = self.split(self.root, place);
        let (found, after) = self.split_first(rest, place);
        self.root = self.merge(before, after);
        found.map(|node| self.nodes.remove(node).value)
    }

    /// Takes out everybody, in no particular order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.root = None;
        self.nodes.drain().map(|node| node.value)
    }

    /// Number and cost of all that stand before `place`.
    pub(super) fn ahead_of(&self, place: Place) -> (usize, Cost) {
        let (mut count, mut sum, mut next) = (0, Cost::ZERO, self.root);
        while let Some(at) = next {
            let node = &self.nodes[at];
            if node.place < place {
                count += 1 + self.count(node.left);
                sum = sum + node.cost + self.sum(node.left);
                next = node.right;
            } else {
                next = node.left;
            }
        }
        (count, sum)
    }

    fn next_weight(&mut self) -> u32 {
        // xorshift32: the weights only have to be unrelated to the order of arrival.
        self.weights ^= self.weights << 13;
        self.weights ^= self.weights >> 17;
        self.weights ^= self.weights << 5;
        self.weights
    }

    fn sum(&self, node: Option<usize>) -> Cost {
        node.map_or(Cost::ZERO, |at| self.nodes[at].sum)
    }

    fn count(&self, node: Option<usize>) -> usize {
        node.map_or(0, |at| self.nodes[at].count)
    }

    fn refresh(&mut self, at: usize) {
        let (left, right, cost) = (self.nodes[at].left, self.nodes[at].right, self.nodes[at].cost);
        self.nodes[at].sum = cost + self.sum(left) + self.sum(right);
        self.nodes[at].count = 1 + self.count(left) + self.count(right);
    }

    /// Two trees: all before `place`, and the rest.
    fn split(&mut self, node: Option<usize>, place: Place) -> (Option<usize>, Option<usize>) {
        let Some(at) = node else { return (None, None) };
        if self.nodes[at].place < place {
            let (before, rest) = self.split(self.nodes[at].right, place);
            self.nodes[at].right = before;
            self.refresh(at);
            (Some(at), rest)
        } else {
            let (before, rest) = self.split(self.nodes[at].left, place);
            self.nodes[at].left = rest;
            self.refresh(at);
            (before, Some(at))
        }
    }

    /// Cuts the first node off a tree, if it stands at exactly `place`.
    fn split_first(&mut self, node: Option<usize>, place: Place) -> (Option<usize>, Option<usize>) {
        let Some(at) = node else { return (None, None) };
        if let Some(left) = self.nodes[at].left {
            let (found, rest) = self.split_first(Some(left), place);
            self.nodes[at].left = rest;
            self.refresh(at);
            (found, Some(at))
        } else if self.nodes[at].place == place {
            (Some(at), self.nodes[at].right)
        } else {
            (None, Some(at))
        }
    }

    fn merge(&mut self, left: Option<usize>, right: Option<usize>) -> Option<usize> {
        let (Some(l), Some(r)) = (left, right) else { return left.or(right) };
        let top = if self.nodes[l].weight > self.nodes[r].weight {
            self.nodes[l].right = self.merge(self.nodes[l].right, right);
            l
        } else {
            self.nodes[r].left = self.merge(left, self.nodes[r].left);
            r
        };
        self.refresh(top);
        Some(top)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(seq: u64) -> Place {
        Place { class: 0, seq, tie: 0 }
    }

    proptest! {
        /// Against the plain way: a sorted list, counted from the front.
        #[test]
        fn behaves_like_a_sorted_list(ops in prop::collection::vec((0u8..4, 0u64..40, 0u32..1000), 1..200)) {
            let mut queue = Queue::default();
            let mut model = std::collections::BTreeMap::new();
            for (op, seq, tokens) in ops {
                let cost = Cost::of_either(f64::from(tokens));
                match op {
                    0 | 1 => {
                        if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(seq) {
                            entry.insert(cost);
                            queue.insert(place(seq), cost, seq);
                        }
                    }
                    2 => prop_assert_eq!(queue.remove(place(seq)), model.remove(&seq).map(|_| seq)),
                    _ => {
                        let first = queue.first().map(|(_, _, seq)| seq);
                        prop_assert_eq!(first, model.keys().next().copied());
                        if let Some(seq) = first {
                            queue.remove(place(seq));
                            model.remove(&seq);
                        }
                    }
                }
                let ahead = model.range(..seq).fold(Cost::ZERO, |sum, (_, cost)| sum + *cost);
                prop_assert_eq!(queue.ahead_of(place(seq)), (model.range(..seq).count(), ahead));
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn stays_shallow_when_calls_come_in_order() {
        let mut queue = Queue::default();
        for seq in 0..100_000 {
            queue.insert(place(seq), Cost::ONE, ());
        }
        fn depth(queue: &Queue<()>, node: Option<usize>) -> usize {
            node.map_or(0, |at| 1 + depth(queue, queue.nodes[at].left).max(depth(queue, queue.nodes[at].right)))
        }
        assert!(depth(&queue, queue.root) < 64);
    }
}
