//! The simulated world: keepers, links, a daemon, and one random event after the other from a seed.
//!
//! Drives the real cores ([`KeeperCore`](shellkeep::keeper::core::KeeperCore), [`Session`]). Messages travel in order
//! and may be lost only with their link; a link that the keeper gave up still delivers what was on the way.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shellkeep_daemon::sessions::core::{ConnectionId, SessionCore, SyncDue, SyncTicket};
use shellkeep_daemon::sessions::session::Session;
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::session::{Append, Gap, SessionPush, SessionResponse, SessionStart};

use super::bugs::Bug;
use super::disk::{Covered, Disk, Rec, SimLog, StoredLog};
use super::keeper::Keeper;

/// A request on the way to the daemon.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Start(Box<SessionStart>),
    Append(Append, Vec<Rec>),
    Gap(Gap),
}

/// Something on the way to a keeper.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Answer(SessionResponse),
    Push(SessionPush),
}

/// One connection between a keeper and the daemon.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) keeper: usize,
    pub(super) id: ConnectionId,
    pub(super) requests: VecDeque<Asked>,
    pub(super) answers: VecDeque<Said>,
    /// The keeper still reads.
    pub(super) keeper_end: bool,
    /// The daemon still reads: what is in `requests` will be executed even if the keeper is gone.
    pub(super) daemon_end: bool,
}

/// A sync on its way.
#[derive(Debug)]
pub(super) struct RunningSync {
    pub(super) session: SessionId,
    pub(super) ticket: SyncTicket,
    pub(super) covered: Covered,
}

/// What happened, for people.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Records produced.
    pub records: u64,
    /// Deaths of the daemon.
    pub daemon_deaths: u64,
    /// Those of them after a failed sync that it could not go on from.
    pub suspect_deaths: u64,
    /// Deaths of keepers.
    pub keeper_deaths: u64,
    /// Connections dropped with bytes unread.
    pub drops: u64,
    /// Power cuts.
    pub power_losses: u64,
    /// Times that syncs began to fail.
    pub failed_syncs: u64,
    /// Gaps written.
    pub gaps: u64,
    /// Sessions that went on under another id.
    pub forks: u64,
    /// Spools taken over.
    pub adoptions: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.daemon_deaths += other.daemon_deaths;
        self.suspect_deaths += other.suspect_deaths;
        self.keeper_deaths += other.keeper_deaths;
        self.drops += other.drops;
        self.power_losses += other.power_losses;
        self.failed_syncs += other.failed_syncs;
        self.gaps += other.gaps;
        self.forks += other.forks;
        self.adoptions += other.adoptions;
    }
}

/// Everything.
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) bug: Bug,
    pub(super) now: Instant,
    pub(super) keepers: Vec<Keeper>,
    pub(super) links: Vec<Link>,
    pub(super) disk: Rc<RefCell<Disk>>,
    pub(super) backup: Option<BTreeMap<SessionId, StoredLog>>,
    pub(super) daemon_up: bool,
    pub(super) sessions: BTreeMap<SessionId, Session<SimLog>>,
    pub(super) syncs: Vec<RunningSync>,
    pub(super) tally: Tally,
    /// Broken promises seen on the way.
    pub(super) violations: Vec<String>,
    /// Who was welcomed last, per log: nobody else may write to it.
    pub(super) holders: BTreeMap<StoreId, (ConnectionId, WriterId)>,
    /// What the planted bugs keep where they must not.
    pub(super) planted: super::bugs::Planted,
    /// Each event is printed on stderr.
    pub(super) trace: bool,
    next_id: u64,
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug, trace: bool) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            bug,
            now: Instant::now(),
            keepers: Vec::new(),
            links: Vec::new(),
            disk: Rc::default(),
            backup: None,
            daemon_up: true,
            sessions: BTreeMap::new(),
            syncs: Vec::new(),
            tally: Tally::default(),
            violations: Vec::new(),
            holders: BTreeMap::new(),
            planted: super::bugs::Planted::default(),
            trace,
            next_id: 0,
        };
        world.disk.borrow_mut().marks = bug != Bug::ForgetfulSync;
        let session = world.session_id();
        let writer = WriterId::from_bytes(world.id());
        world.keepers.push(Keeper::new(session, writer));
        world
    }

    pub(super) fn id(&mut self) -> [u8; 16] {
        self.next_id += 1;
        u128::from(self.next_id).to_be_bytes()
    }

    pub(super) fn session_id(&mut self) -> SessionId {
        SessionId::from_bytes(self.id())
    }

    /// Tells the person who replays a history what happens.
    #[allow(clippy::print_stderr)] // only with --trace
    pub(super) fn note(&self, event: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", event());
        }
    }

    /// One random event.
    pub(super) fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(0..20));
        match self.rng.u32(0..1000) {
            0..250 => self.produce(),
            250..480 => self.deliver_request(),
            480..700 => self.deliver_answer(),
            700..760 => self.begin_syncs(false),
            760..830 => self.end_sync(),
            830..900 => self.connect(),
            900..915 => self.drop_link(),
            915..930 => self.daemon_dies(),
            930..960 => self.daemon_up = true,
            960..964 => self.keeper_dies(),
            964..974 => self.adopt_one(),
            974..978 => self.toggle_full(),
            978..982 => self.fail_syncs(),
            982..988 => self.power_loss(),
            988..990 => self.wipe(),
            990..992 => self.take_backup(),
            992..994 => self.restore_backup(),
            994..996 => self.clone_keeper(),
            996..998 => self.rogue_writer(),
            _ => self.damage_spool(),
        }
    }

    fn produce(&mut self) {
        let alive: Vec<usize> = (0..self.keepers.len()).filter(|&k| self.keepers[k].alive).collect();
        let Some(&k) = self.rng.choice(&alive) else { return self.new_keeper() };
        for _ in 0..self.rng.u32(1..4) {
            let (salt, len) = (self.rng.u32(..), self.rng.u32(0..40_000));
            self.keepers[k].produce(salt, len);
            self.tally.records += 1;
        }
        self.ship(k);
    }

    fn new_keeper(&mut self) {
        if self.keepers.len() < 4 {
            let session = self.session_id();
            let writer = WriterId::from_bytes(self.id());
            self.keepers.push(Keeper::new(session, writer));
        }
    }

    /// A snapshot of the machine is started a second time: same session, same writer, same spool.
    fn clone_keeper(&mut self) {
        if self.keepers.len() < 4
            && let Some(original) = self.keepers.iter_mut().find(|keeper| keeper.alive)
        {
            original.twin = true;
            let mut twin = original.clone();
            twin.core.lost(u64::MAX); // no connection of the original is the twin's
            for link in &self.links {
                twin.core.lost(link.id.0);
            }
            self.note(|| "twin".into());
            self.keepers.push(twin);
        }
    }

    /// Somebody else claims the id of a session.
    fn rogue_writer(&mut self) {
        if self.keepers.len() < 4 {
            let session = self.keepers[0].core.session();
            let writer = WriterId::from_bytes(self.id());
            self.keepers.push(Keeper::new(session, writer));
        }
    }

    pub(super) fn connect(&mut self) {
        for k in 0..self.keepers.len() {
            let connected = self.links.iter().any(|link| link.keeper == k && link.keeper_end);
            if !self.daemon_up || connected || !self.keepers[k].alive {
                continue;
            }
            self.next_id += 1;
            let keeper = &self.keepers[k];
            let start =
                Asked::Start(Box::new(keeper.core.start(&keeper.spool, shellkeep_protocol::session::Attrs::default())));
            self.links.push(Link {
                keeper: k,
                id: ConnectionId(self.next_id),
                requests: VecDeque::from([start]),
                answers: VecDeque::new(),
                keeper_end: true,
                daemon_end: true,
            });
        }
    }

    fn drop_link(&mut self) {
        let open: Vec<usize> = (0..self.links.len()).filter(|&l| self.links[l].keeper_end).collect();
        if let Some(&l) = self.rng.choice(&open) {
            self.keeper_hangs_up(l);
            self.tally.drops += 1;
        }
    }

    /// The keeper's end is closed. The daemon may still read any prefix of what was sent.
    pub(super) fn keeper_hangs_up(&mut self, l: usize) {
        self.note(|| format!("keeper {} hangs up {:?}", self.links[l].keeper, self.links[l].id));
        let link = &mut self.links[l];
        link.keeper_end = false;
        link.answers.clear();
        let read = self.rng.usize(0..=link.requests.len());
        link.requests.truncate(read);
        self.keepers[link.keeper].core.lost(link.id.0);
    }

    /// The daemon's end is closed: nothing more is executed or said on it.
    pub(super) fn daemon_hangs_up(&mut self, id: ConnectionId) {
        for l in 0..self.links.len() {
            if self.links[l].id == id {
                self.links[l].daemon_end = false;
                self.links[l].requests.clear();
                if self.links[l].answers.is_empty() || self.rng.bool() {
                    self.keeper_hangs_up(l);
                }
            }
        }
    }

    fn daemon_dies(&mut self) {
        if !std::mem::take(&mut self.daemon_up) {
            return;
        }
        if self.sessions.values().any(|session| session.core().is_suspect()) {
            self.tally.suspect_deaths += 1;
            self.disk.borrow_mut().full = false; // somebody makes room, and the next daemon can go on
        }
        self.note(|| "daemon dies".into());
        self.tally.daemon_deaths += 1;
        self.sessions.clear();
        self.syncs.clear();
        self.planted.daemon_died();
        for link in &mut self.links {
            link.daemon_end = false;
            link.requests.clear();
        }
        for l in 0..self.links.len() {
            if self.links[l].keeper_end {
                self.keeper_hangs_up(l);
            }
        }
        self.links.clear();
    }

    fn keeper_dies(&mut self) {
        let k = self.rng.usize(0..self.keepers.len());
        if std::mem::take(&mut self.keepers[k].alive) {
            self.tally.keeper_deaths += 1;
            self.note(|| format!("keeper {k} dies"));
            for l in 0..self.links.len() {
                if self.links[l].keeper == k && self.links[l].keeper_end {
                    self.keeper_hangs_up(l);
                }
            }
        }
    }

    fn toggle_full(&mut self) {
        let mut disk = self.disk.borrow_mut();
        disk.full = !disk.full;
        self.note(|| format!("full: {}", disk.full));
    }

    fn fail_syncs(&mut self) {
        let mut disk = self.disk.borrow_mut();
        disk.failing_syncs = self.rng.u32(1..4);
        // Troubles come together: then not even a new segment can be begun.
        disk.full |= self.rng.u32(0..3) == 0;
        drop(disk);
        self.tally.failed_syncs += 1;
        self.note(|| "syncs will fail".into());
    }

    /// Only the daemon's machine: a keeper in a container or behind ssh lives on. Sometimes all of them.
    fn power_loss(&mut self) {
        self.sessions.clear();
        self.daemon_dies();
        self.disk.borrow_mut().power_loss(&mut self.rng);
        self.planted.power_loss();
        self.tally.power_losses += 1;
        self.note(|| "power loss".into());
        if self.rng.u32(0..4) == 0 {
            for keeper in self.keepers.iter_mut().filter(|keeper| !keeper.spool_gone) {
                keeper.alive = false;
                keeper.spool_gone = true;
                keeper.mute = true;
                for (excused, claimed) in keeper.excused.iter_mut().zip(&keeper.claimed) {
                    *excused |= !claimed;
                }
            }
        }
        self.check_copies("power loss");
    }

    fn wipe(&mut self) {
        self.sessions.clear();
        self.daemon_dies();
        self.note(|| "wipe".into());
        self.disk.borrow_mut().logs.clear();
        self.holders.clear();
        self.excuse_claimed();
        self.check_copies("wipe");
    }

    fn take_backup(&mut self) {
        self.note(|| "backup".into());
        let mut logs = self.disk.borrow().logs.clone();
        logs.values_mut().for_each(StoredLog::reread);
        self.backup = Some(logs);
    }

    fn restore_backup(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        self.sessions.clear();
        self.daemon_dies();
        self.note(|| "restore".into());
        self.disk.borrow_mut().logs = backup;
        self.holders.clear();
        self.excuse_claimed();
        self.check_copies("restored backup");
    }

    /// An administrator removed a log: what only it had may be gone, but nothing else.
    fn excuse_claimed(&mut self) {
        for keeper in &mut self.keepers {
            for (excused, claimed) in keeper.excused.iter_mut().zip(&keeper.claimed) {
                *excused |= claimed;
            }
            if keeper.spool_gone {
                keeper.excused.fill(true);
                keeper.mute = true;
            }
        }
    }

    fn damage_spool(&mut self) {
        let k = self.rng.usize(0..self.keepers.len());
        let keeper = &mut self.keepers[k];
        if let Some(rec) = self.rng.choice(keeper.spool.records.iter().copied().collect::<Vec<_>>()) {
            keeper.spool.damaged.push(rec.seq);
            keeper.excuse(rec.seq);
        }
    }

    /// Starts the syncs that are due, or all that anything waits for.
    pub(super) fn begin_syncs(&mut self, all: bool) {
        for (id, session) in &mut self.sessions {
            let due = match session.sync_due() {
                None => false,
                Some(SyncDue::Now) => true,
                Some(SyncDue::At(at)) => all || at <= self.now,
            };
            if due {
                let covered = self.disk.borrow().covered(*id);
                self.syncs.push(RunningSync { session: *id, ticket: session.sync_begin(), covered });
            }
        }
    }

    /// Opens a session as the daemon does: from memory, else by scanning, else by making it.
    pub(super) fn open(&mut self, id: SessionId, writer: WriterId) -> Result<&mut Session<SimLog>, SessionResponse> {
        if !self.sessions.contains_key(&id) {
            let log = SimLog { disk: Rc::clone(&self.disk), session: id, silent_gaps: self.bug == Bug::SilentGap };
            let found = self.disk.borrow().logs.get(&id).map(|log| log.recover(self.now));
            let core = if let Some(core) = found {
                core
            } else {
                let store = StoreId::from_bytes(self.id());
                let made = self.disk.borrow_mut().create(id, store, writer);
                if made.is_err() {
                    return Err(super::daemon::no_space());
                }
                SessionCore::new(store, writer)
            };
            self.sessions.insert(id, Session::new(id, core, log));
        }
        self.sessions.get_mut(&id).ok_or_else(super::daemon::no_space)
    }
}
