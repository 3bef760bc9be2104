//! The two ends at work in the simulation: the daemon executes requests, keepers take answers, spools are adopted.

use shellkeep::keeper::core::Output;
use shellkeep_daemon::sessions::adopt::{Adoption, adopt};
use shellkeep_daemon::sessions::core::ConnectionId;
use shellkeep_daemon::sessions::session::Told;
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::{
    Append, Attrs, Busy, BusyReason, Gap, GapReason, Position, SessionResponse, SessionStart,
};

use super::bugs::Bug;
use super::disk::{Entry, Rec, StoredLog, arrived};
use super::keeper::Abandoned;
use super::world::{Asked, Link, Said, World};

/// The answer of a daemon that cannot even make a log.
pub(super) fn no_space() -> SessionResponse {
    SessionResponse::Busy(Busy { reason: BusyReason::NoSpace, retry_ms: 50 })
}

impl World {
    /// The daemon reads one request from a random link and executes it.
    pub(super) fn deliver_request(&mut self) {
        let ready: Vec<usize> = (0..self.links.len()).filter(|&l| !self.links[l].requests.is_empty()).collect();
        if let Some(&l) = self.rng.choice(&ready).filter(|_| self.daemon_up) {
            self.execute(l);
        }
        // Links that nobody will read or write any more.
        self.links.retain(|link| link.keeper_end || !link.requests.is_empty());
    }

    pub(super) fn execute(&mut self, l: usize) {
        let id = self.links[l].id;
        let started = match self.links[l].requests.front() {
            Some(Asked::Start(start)) => Some(start.session),
            _ => None,
        };
        let Some(request) = self.links[l].requests.pop_front() else { return };
        let what = if self.trace { request.to_string() } else { String::new() };
        let response = match request {
            Asked::Start(start) => self.execute_start(id, &start),
            Asked::Append(request, records) => self.execute_append(id, request, &records),
            Asked::Gap(gap) => self.execute_gap(id, &gap),
        };
        self.note(|| format!("{id:?} keeper {}: {what} -> {response:?}", self.links[l].keeper));
        if let Some(id) = started {
            self.outline(id);
        }
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id && link.keeper_end) {
            link.answers.push_back(Said::Answer(response));
        }
    }

    fn execute_start(&mut self, id: ConnectionId, start: &SessionStart) -> SessionResponse {
        let now = self.now;
        if self.bug == Bug::OwnerInSecondFile
            && *self.planted.owners.entry(start.session).or_insert(start.writer) == start.writer
            && let Some(log) = self.disk.borrow_mut().logs.get_mut(&start.session)
        {
            log.forget_owner(start.writer);
            self.sessions.remove(&start.session);
        }
        let session = match self.open(start.session, start.writer) {
            Ok(session) => session,
            Err(busy) => return busy,
        };
        let registered = session.register(id, start, now);
        let mut response = registered.response;
        if let Some(old) = registered.superseded {
            self.daemon_hangs_up(old);
        }
        if let SessionResponse::Welcome(welcome) = &mut response {
            let (_, owner) = *self.holders.entry(welcome.store).or_insert((id, start.writer));
            if owner != start.writer {
                self.violations.push(format!("a second owner was welcomed to log {}", welcome.store));
            }
            self.holders.insert(welcome.store, (id, start.writer));
            if self.bug == Bug::DedupeInMemory {
                let seen = self.planted.seen.get(&start.session).copied();
                let next_seq = seen.unwrap_or(start.first_retained);
                welcome.end = Position { next_seq, chain: welcome.end.chain, output_offset: 0 };
                if seen.is_none() {
                    welcome.end.chain = start.chain_before_first;
                }
            }
        }
        response
    }

    /// Nobody but the holder of the newest grant may have written.
    fn check_holder(&mut self, id: ConnectionId, session: shellkeep_protocol::ids::SessionId, before: Position) {
        let Some(session) = self.sessions.get(&session) else { return };
        let holder = self.holders.get(&session.core().store());
        if session.core().end_position() != before && holder.is_none_or(|(holder, _)| *holder != id) {
            self.violations.push(format!("session {} took records of a connection whose grant is over", session.id()));
        }
    }

    fn execute_append(&mut self, id: ConnectionId, mut request: Append, records: &[Rec]) -> SessionResponse {
        let now = self.now;
        let bug = self.bug;
        let Some(session) = self.sessions.get_mut(&request.session) else {
            return SessionResponse::Refused(shellkeep_protocol::session::Refused::Unknown);
        };
        let before = session.core().end_position();
        match bug {
            Bug::NoFencing => request.epoch = session.core().epoch(),
            Bug::BlindAppend | Bug::DedupeInMemory => {
                let seen = self.planted.seen.entry(request.session).or_insert(request.first_seq);
                let entries: Vec<Entry> = records
                    .iter()
                    .filter(|rec| bug == Bug::BlindAppend || rec.seq >= *seen)
                    .map(|rec| Entry::Record(*rec))
                    .collect();
                let Ok(_) = session.log().push(&entries) else { return no_space() };
                if let Some(rec) = records.last() {
                    *seen = rec.seq.next().max(*seen);
                }
                return SessionResponse::Written { next_seq: *seen };
            }
            _ => {}
        }
        let response = session.append(&request, &arrived(records), records, now);
        self.check_holder(id, request.session, before);
        response
    }

    fn execute_gap(&mut self, id: ConnectionId, gap: &Gap) -> SessionResponse {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&gap.session) else {
            return SessionResponse::Refused(shellkeep_protocol::session::Refused::Unknown);
        };
        let before = session.core().end_position();
        let response = session.gap(gap, now);
        self.check_holder(id, gap.session, before);
        if matches!(response, SessionResponse::Written { .. }) {
            self.tally.gaps += 1;
        }
        response
    }

    /// A keeper reads one answer or push from a random link.
    pub(super) fn deliver_answer(&mut self) {
        let ready = |link: &Link| link.keeper_end && !link.answers.is_empty();
        let ready: Vec<usize> = (0..self.links.len()).filter(|&l| ready(&self.links[l])).collect();
        if let Some(&l) = self.rng.choice(&ready) {
            self.take_answer(l);
        }
        for k in 0..self.keepers.len() {
            let keeper = &mut self.keepers[k];
            if keeper.core.wake_at().is_some_and(|at| at <= self.now) {
                let outputs = keeper.core.tick(&keeper.spool, self.now);
                self.act(k, outputs);
            }
        }
    }

    pub(super) fn take_answer(&mut self, l: usize) {
        let Link { keeper: k, id, daemon_end, .. } = self.links[l];
        let Some(said) = self.links[l].answers.pop_front() else { return };
        let emptied = self.links[l].answers.is_empty();
        let keeper = &mut self.keepers[k];
        let outputs = match said {
            Said::Answer(SessionResponse::Welcome(welcome)) => {
                keeper.core.welcomed(id.0, &welcome, &keeper.spool, self.now)
            }
            Said::Answer(SessionResponse::Refused(shellkeep_protocol::session::Refused::Owner(_))) => {
                vec![Output::Fork]
            }
            Said::Answer(_) if !keeper.core.is_live() => vec![Output::Reconnect],
            Said::Answer(answer) => {
                if let (Bug::TrimOnWritten, SessionResponse::Written { next_seq }) = (self.bug, &answer) {
                    keeper.spool.drop_below(*next_seq);
                }
                keeper.core.answered(id.0, &answer, &keeper.spool, self.now)
            }
            Said::Push(push) => keeper.core.pushed(id.0, &push, &keeper.spool, self.now),
        };
        self.act(k, outputs);
        if emptied && !daemon_end && self.links[l].keeper_end {
            self.keeper_hangs_up(l);
        }
    }

    /// A keeper has something new to send.
    pub(super) fn ship(&mut self, k: usize) {
        let keeper = &mut self.keepers[k];
        let outputs = keeper.core.recorded(&keeper.spool, self.now);
        self.act(k, outputs);
    }

    /// Does what a keeper's core asks for.
    fn act(&mut self, k: usize, outputs: Vec<Output>) {
        for output in outputs {
            self.note(|| format!("keeper {k}: {output:?}"));
            let link = self.links.iter().position(|link| link.keeper == k && link.keeper_end);
            let (session, epoch) = (self.keepers[k].core.session(), self.keepers[k].core.epoch());
            let keeper = &mut self.keepers[k];
            let request = match output {
                Output::Append { from, prev_chain, to } => {
                    let records = keeper.spool.read(from, to);
                    let request = Append { session, epoch, first_seq: from, prev_chain, records: Vec::new() };
                    Asked::Append(request, records)
                }
                Output::Gap { from, to_before, reason } => Asked::Gap(Gap {
                    session,
                    epoch,
                    from,
                    to: to_before.next_seq.prev(),
                    output_offset_after: to_before.output_offset,
                    time_us: 0,
                    reason,
                    chain_after: to_before.chain,
                }),
                Output::Trim(below) => {
                    keeper.claim_below(below);
                    keeper.spool.drop_below(below);
                    continue;
                }
                Output::Reconnect => {
                    if let Some(l) = link {
                        self.keeper_hangs_up(l);
                    }
                    continue;
                }
                Output::Fork => {
                    if let Some(l) = link {
                        self.keeper_hangs_up(l);
                    }
                    self.fork(k);
                    continue;
                }
            };
            if let Some(l) = link {
                self.links[l].requests.push_back(request);
            }
        }
    }

    fn fork(&mut self, k: usize) {
        let session = self.session_id();
        let keeper = &mut self.keepers[k];
        keeper.parents.push(keeper.core.session());
        keeper.core.fork(session);
        keeper.forked = true;
        self.tally.forks += 1;
    }

    /// One running sync ends, well or badly.
    pub(super) fn end_sync(&mut self) {
        if self.syncs.is_empty() {
            return;
        }
        let sync = self.syncs.swap_remove(self.rng.usize(0..self.syncs.len()));
        let ok = self.disk.borrow_mut().sync(sync.session, &sync.covered);
        let Some(session) = self.sessions.get_mut(&sync.session) else { return };
        let told = session.sync_end(sync.ticket, ok, self.now);
        self.note(|| format!("sync of {} ended: {ok}, {told:?}", sync.session));
        self.outline(sync.session);
        let Some((connection, told)) = told else { return };
        match told {
            Told::Close => self.daemon_hangs_up(connection),
            Told::Push(push) => {
                if let Some(link) = self.links.iter_mut().find(|link| link.id == connection && link.keeper_end) {
                    link.answers.push_back(Said::Push(push));
                }
            }
        }
    }

    /// The daemon looks for a spool whose keeper is dead and takes it over.
    pub(super) fn adopt_one(&mut self) {
        let free = |k: &usize| !self.keepers[*k].alive && !self.keepers[*k].spool_gone;
        let Some(k) = (0..self.keepers.len()).find(free).filter(|_| self.daemon_up) else { return };
        // As in the daemon, a spool is adopted when nothing of its keeper is on the way any more.
        for l in 0..self.links.len() {
            while self.links[l].keeper == k && !self.links[l].requests.is_empty() {
                self.execute(l);
            }
        }
        let id = ConnectionId(u64::from_be_bytes(self.id()[8..].try_into().unwrap_or_default()));
        let keeper = &self.keepers[k];
        let start = keeper.core.start(&keeper.spool, Attrs::default());
        let spool = keeper.spool.clone();
        let reason = if keeper.forked { GapReason::Forked } else { GapReason::SpoolFull };
        let (writer, now) = (keeper.writer, self.now);
        let Ok(session) = self.open(start.session, writer) else { return };
        let mut abandoned = Abandoned { spool: &spool, batch: Vec::new() };
        let adoption = adopt(session, &mut abandoned, id, &start, reason, (now, 0));
        let store = session.core().store();
        let holds = session.core().connection() == Some(id);
        self.note(|| format!("adoption of keeper {k} {}: {adoption:?}", start.session));
        self.outline(start.session);
        if holds {
            let superseded = self.holders.insert(store, (id, writer)).filter(|(old, _)| *old != id);
            if let Some((old, _)) = superseded {
                self.daemon_hangs_up(old);
            }
        }
        match adoption {
            Adoption::Conflict => self.fork(k),
            Adoption::Later(_) => {}
            Adoption::Done => {
                self.tally.adoptions += 1;
                self.sync_adopted(k, start.session, spool.end());
            }
        }
    }

    fn outline(&self, id: shellkeep_protocol::ids::SessionId) {
        self.note(|| self.disk.borrow().logs.get(&id).map_or_else(String::new, StoredLog::outline));
    }

    /// The spool goes only when the log is durable; else it is adopted again later, which adds nothing.
    fn sync_adopted(&mut self, k: usize, id: shellkeep_protocol::ids::SessionId, end: Position) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.sync_due().is_some() {
            let covered = self.disk.borrow().covered(id);
            let ticket = session.sync_begin();
            let ok = self.disk.borrow_mut().sync(id, &covered);
            session.sync_end(ticket, ok, self.now);
        }
        if session.core().durable_seq() + 1 >= end.next_seq.get() {
            self.keepers[k].claim_below(end.next_seq);
            self.keepers[k].spool_gone = true;
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(start) => write!(
                f,
                "start {} epoch {} {}..{}",
                start.session, start.epoch_known, start.first_retained, start.next_seq
            ),
            Self::Append(append, records) => {
                write!(f, "append {} epoch {} {}+{}", append.session, append.epoch, append.first_seq, records.len())
            }
            Self::Gap(gap) => write!(f, "gap {} epoch {} {}..={}", gap.session, gap.epoch, gap.from, gap.to),
        }
    }
}
