//! The slab against the simplest thing that does the same: a map in which nothing is ever used again.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{InFlight, Waiting};

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    Complete(usize),
    Poll(usize),
    Remove(usize),
    Expire(u64),
    EndAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..100).prop_map(Step::Insert),
        4 => any::<usize>().prop_map(Step::Complete),
        4 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => (0_u64..100).prop_map(Step::Expire),
        1 => Just(Step::EndAll),
    ]
}

#[derive(Debug, PartialEq)]
enum Model {
    Waiting { deadline: u64 },
    Done(&'static str),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_slot_answers_its_own_call_once_and_no_other(steps in prop::collection::vec(step(), 1..200)) {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let cx = Context::from_waker(Waker::noop());
        let mut slab = InFlight::new();
        let mut model = HashMap::<u64, Model>::new();
        let mut ever = Vec::new(); // ids of calls long gone are used on purpose: late answers, second polls
        let mut wakers = Vec::new();
        for step in steps {
            let pick = |n: usize| ever.get(n % ever.len().max(1)).copied().unwrap_or(77);
            match step {
                Step::Insert(deadline) => {
                    let promised = slab.next_id();
                    let id = slab.insert(Waiting::new(at(deadline), 1, 1));
                    prop_assert_eq!(promised, id);
                    let twice = model.insert(id, Model::Waiting { deadline }).is_some() || ever.contains(&id);
                    prop_assert!(!twice, "an id was given twice");
                    ever.push(id);
                }
                Step::Complete(n) => {
                    let id = pick(n);
                    slab.complete(id, "answer", &mut wakers);
                    if let Some(call @ Model::Waiting { .. }) = model.get_mut(&id) {
                        *call = Model::Done("answer");
                    }
                }
                Step::Poll(n) => {
                    let id = pick(n);
                    let expected = match model.get(&id) {
                        Some(Model::Waiting { .. }) => Poll::Pending,
                        Some(Model::Done(answer)) => Poll::Ready(Some(*answer)),
                        None => Poll::Ready(None),
                    };
                    prop_assert_eq!(slab.poll(id, &cx), expected);
                    if matches!(model.get(&id), Some(Model::Done(_))) {
                        model.remove(&id);
                    }
                }
                Step::Remove(n) => {
                    let id = pick(n);
                    let was_waiting = matches!(model.remove(&id), Some(Model::Waiting { .. }));
                    prop_assert_eq!(slab.remove(id), was_waiting);
                }
                Step::Expire(now) => {
                    slab.expire(at(now), &mut wakers, |_, _| "late");
                    for call in model.values_mut() {
                        if matches!(call, Model::Waiting { deadline } if *deadline <= now) {
                            *call = Model::Done("late");
                        }
                    }
                }
                Step::EndAll => {
                    slab.end_all(&mut wakers, |_| "lost");
                    for call in model.values_mut() {
                        if matches!(call, Model::Waiting { .. }) {
                            *call = Model::Done("lost");
                        }
                    }
                }
            }
            let waiting = model.values().filter_map(|call| match call {
                Model::Waiting { deadline } => Some(*deadline),
                Model::Done(_) => None,
            });
            prop_assert_eq!(slab.waiting(), waiting.clone().count());
            prop_assert_eq!(slab.used(), model.len());
            if let Some(earliest) = waiting.min() {
                prop_assert!(slab.earliest_deadline().unwrap() <= at(earliest), "a deadline would be missed");
            }
        }
    }
}
