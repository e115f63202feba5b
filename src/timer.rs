// SPDX-License-Identifier: Apache-2.0
//! Tick periods of root contexts, turned into one next deadline.

use crate::vm::Vm;
use std::rc::Weak;

struct Timer {
    vm: Weak<Vm>,
    root: u32,
    period_ns: u64,
    next_ns: u64,
}

/// One timer at most for each root context. Few, so a list serves.
#[derive(Default)]
pub(crate) struct Timers(Vec<Timer>);

impl Timers {
    /// Sets, replaces or, with a period of 0, cancels the timer of a root context.
    pub(crate) fn set(&mut self, vm: &Weak<Vm>, root: u32, period_ns: u64, now_ns: u64) {
        self.0.retain(|timer| !(timer.root == root && timer.vm.ptr_eq(vm)));
        if period_ns > 0 {
            let next_ns = now_ns.saturating_add(period_ns);
            self.0.push(Timer { vm: vm.clone(), root, period_ns, next_ns });
        }
    }

    /// Cancels all timers of a VM.
    pub(crate) fn remove_vm(&mut self, vm: &Weak<Vm>) {
        self.0.retain(|timer| !timer.vm.ptr_eq(vm));
    }

    /// The earliest deadline.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.0.iter().map(|timer| timer.next_ns).min()
    }

    /// The root contexts whose time has come, each once; their timers are set anew. Periods that were missed are not made up for.
    pub(crate) fn due(&mut self, now_ns: u64) -> Vec<(Weak<Vm>, u32)> {
        let due = self.0.iter_mut().filter(|timer| timer.next_ns <= now_ns);
        due.map(|timer| {
            timer.next_ns = (timer.next_ns.saturating_add(timer.period_ns)).max(now_ns.saturating_add(1));
            (timer.vm.clone(), timer.root)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_timer_for_each_root_and_zero_cancels() {
        let (mut timers, vm) = (Timers::default(), Weak::new());
        timers.set(&vm, 1, 100, 0);
        timers.set(&vm, 2, 50, 0);
        timers.set(&vm, 1, 30, 0);
        assert_eq!(timers.next_ns(), Some(30));
        timers.set(&vm, 1, 0, 0);
        assert_eq!(timers.next_ns(), Some(50));
        timers.remove_vm(&vm);
        assert_eq!(timers.next_ns(), None);
    }

    #[test]
    fn missed_ticks_come_once() {
        let (mut timers, vm) = (Timers::default(), Weak::new());
        timers.set(&vm, 1, 10, 0);
        assert_eq!(timers.due(9).len(), 0);
        assert_eq!(timers.due(95).len(), 1);
        assert_eq!(timers.due(95).len(), 0);
        assert_eq!(timers.due(96).len(), 1);
    }
}
