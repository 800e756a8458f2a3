//! The search for one order of calls that explains all answers, by stateright's tester.
//!
//! How long it takes grows with the factorial of the calls that are under way at once, and of those
//! whose answer is not known most of all. So clients use an object for [`CALLS_MAX`] calls and then
//! the next one, checks that take a moment come first, and the search ends after so many steps: what
//! it has not found out by then is not checked, which is not the same as right.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
};

pub use stateright::semantics::SequentialSpec;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

use super::{
    history::Call,
    verdict::{Doubt, Verdict},
};

/// About so many calls are made of one object.
pub const CALLS_MAX: u64 = 12;
/// Some seconds of work.
const STEPS_MAX: u64 = 400_000;

/// An object whose steps are counted.
#[derive(Clone)]
struct Counted<S> {
    object: S,
    left: Rc<Cell<u64>>,
}

/// Ends a search from within: the tester knows no other way.
struct GaveUp;

impl<S> Counted<S> {
    fn count(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => resume_unwind(Box::new(GaveUp)),
        }
    }
}

impl<S: SequentialSpec> SequentialSpec for Counted<S> {
    type Op = S::Op;
    type Ret = S::Ret;

    fn invoke(&mut self, op: &S::Op) -> S::Ret {
        self.count();
        self.object.invoke(op)
    }

    fn is_valid_step(&mut self, op: &S::Op, ret: &S::Ret) -> bool {
        self.count();
        self.object.is_valid_step(op, ret)
    }
}

/// Whether there is an order of the calls of one object, which begins as `object`, in which each has
/// the answer that it got. A call without an answer may have taken effect at any time since it began,
/// or never; leave out those that have none.
pub fn explain<S>(object: S, what: &str, calls: &[&Call<S::Op, S::Ret>]) -> Verdict
where
    S: SequentialSpec + Clone,
    S::Op: Clone + std::fmt::Debug,
    S::Ret: Clone + std::fmt::Debug + PartialEq,
{
    let left = Rc::new(Cell::new(STEPS_MAX));
    let tester = tester(Counted { object, left }, calls)?;
    let found = catch_unwind(AssertUnwindSafe(|| tester.is_consistent()));
    let calls = || {
        let lines: Vec<String> = calls.iter().map(|call| format!("  {call:?}")).collect();
        lines.join("\n")
    };
    match found {
        Ok(true) => Ok(()),
        Ok(false) => Err(Doubt::Violated(format!(
            "no order of events explains what was answered of {what}:\n{}",
            calls()
        ))),
        Err(end) if end.is::<GaveUp>() => Err(Doubt::NotChecked(format!(
            "after {STEPS_MAX} steps no order was found that explains what was answered of {what}, nor that \
             there is none:\n{}",
            calls()
        ))),
        Err(panic) => resume_unwind(panic),
    }
}

type Tester<S> = LinearizabilityTester<(u64, u64), Counted<S>>;

fn tester<S>(object: Counted<S>, calls: &[&Call<S::Op, S::Ret>]) -> Result<Tester<S>, Doubt>
where
    S: SequentialSpec + Clone,
    S::Op: Clone + std::fmt::Debug,
    S::Ret: Clone + std::fmt::Debug + PartialEq,
{
    // A client whose call has no answer goes on with others: that call counts as a client's of its own.
    let client = |call: &Call<S::Op, S::Ret>| match call.returned {
        Some(_) => (call.client, 0),
        None => (call.client, call.invoked),
    };
    let mut events = Vec::new();
    for &call in calls {
        events.push((call.invoked, call));
        events.extend(call.returned.iter().map(|(returned, _)| (*returned, call)));
    }
    events.sort_by_key(|(at, _)| *at);
    let mut tester = LinearizabilityTester::new(object);
    for (at, call) in events {
        let noted = match &call.returned {
            Some((returned, ret)) if *returned == at => tester.on_return(client(call), ret.clone()),
            _ => tester.on_invoke(client(call), call.op.clone()),
        };
        noted.map_err(Doubt::Violated)?;
    }
    Ok(tester)
}

#[cfg(test)]
mod tests {
    use stateright::semantics::register::{Register, RegisterOp, RegisterRet};

    use super::*;

    type Step = Call<RegisterOp<u64>, RegisterRet<u64>>;

    fn write(client: u64, value: u64, from: u64, to: Option<u64>) -> Step {
        Call {
            client,
            op: RegisterOp::Write(value),
            invoked: from,
            returned: to.map(|to| (to, RegisterRet::WriteOk)),
        }
    }

    fn read(client: u64, value: u64, from: u64, to: u64) -> Step {
        Call {
            client,
            op: RegisterOp::Read,
            invoked: from,
            returned: Some((to, RegisterRet::ReadOk(value))),
        }
    }

    fn explained(calls: &[Step]) -> Verdict {
        let calls: Vec<&Step> = calls.iter().collect();
        explain(Register(0), "a register", &calls)
    }

    #[test]
    fn what_an_order_explains_passes_and_what_none_does_is_a_violation() {
        let unknown = write(1, 5, 1, None);
        explained(&[unknown.clone(), read(2, 0, 2, 3), read(2, 5, 4, 5)]).unwrap();
        let back = explained(&[unknown, read(2, 5, 2, 3), read(2, 0, 4, 5)]);
        assert!(matches!(back, Err(Doubt::Violated(_))), "{back:?}");
    }

    #[test]
    fn a_search_that_does_not_end_is_no_pass_and_no_violation() {
        let mut calls: Vec<Step> = (0..14).map(|n| write(n, n, n + 1, None)).collect();
        calls.push(read(20, 99, 20, 21));
        let doubt = explained(&calls);
        assert!(matches!(doubt, Err(Doubt::NotChecked(_))), "{doubt:?}");
    }
}
