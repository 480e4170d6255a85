//! Places in a pod: a container that takes over from one that is gone keeps its place, and that is a restart. Pure.

use crate::parse::process::Comm;

/// Names remembered per place: a shell that becomes a server has two.
const MAX_COMMS: usize = 4;
/// Places per pod; containers beyond share the last.
const MAX_SLOTS: usize = 256;

/// One place.
#[derive(Clone, Debug, Default)]
struct Slot {
    occupied: bool,
    /// Larger is later.
    vacated: u64,
    /// What the first process of its containers was called.
    comms: Vec<Comm>,
    restarts: u32,
    /// Restarts not yet in a row.
    pending: u32,
}

/// The places of one pod.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

/// A place taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub slot: u32,
    /// How many containers held it before.
    pub restarts: u32,
}

impl Slots {
    /// Gives a new container its place: that of a vanished one with the same first process, where both are known; else of the one that
    /// vanished last, where either is not known; else a new one.
    pub fn take(&mut self, comm: Option<Comm>) -> Taken {
        let vacant = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.occupied && slot.vacated > 0);
        let same = vacant().filter(|(_, slot)| comm.is_some_and(|comm| slot.comms.contains(&comm))).max_by_key(|(_, slot)| slot.vacated);
        let unknown = vacant().filter(|(_, slot)| comm.is_none() || slot.comms.is_empty()).max_by_key(|(_, slot)| slot.vacated);
        let place = same.or(unknown).map(|(place, _)| place);
        let place = match place {
            Some(place) => {
                let slot = &mut self.slots[place];
                slot.restarts = slot.restarts.saturating_add(1);
                slot.pending = slot.pending.saturating_add(1);
                place
            }
            None if self.slots.len() < MAX_SLOTS => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
            None => MAX_SLOTS - 1,
        };
        self.slots[place].occupied = true;
        if let Some(comm) = comm {
            self.named(place as u32, comm);
        }
        Taken { slot: place as u32, restarts: self.slots[place].restarts }
    }

    /// A place as an earlier run of the agent left it.
    pub fn restore(&mut self, slot: u32, restarts: u32, occupied: bool) {
        let place = (slot as usize).min(MAX_SLOTS - 1);
        while self.slots.len() <= place {
            self.slots.push(Slot::default());
        }
        self.clock += 1;
        let clock = self.clock;
        let slot = &mut self.slots[place];
        slot.restarts = slot.restarts.max(restarts);
        slot.occupied |= occupied;
        slot.vacated = clock;
    }

    /// What the first process of the container in a place is called.
    pub fn named(&mut self, slot: u32, comm: Comm) {
        if let Some(slot) = self.slots.get_mut(slot as usize)
            && !comm.is_runtime_init()
            && !slot.comms.contains(&comm)
            && slot.comms.len() < MAX_COMMS
        {
            slot.comms.push(comm);
        }
    }

    /// The container in a place is gone.
    pub fn vacate(&mut self, slot: u32) {
        self.clock += 1;
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.occupied = false;
            slot.vacated = self.clock;
        }
    }

    /// Restarts of every place so far.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.restarts)).sum()
    }

    /// Restarts since this was last asked.
    pub fn take_pending(&mut self, slot: u32) -> u32 {
        self.slots.get_mut(slot as usize).map_or(0, |slot| std::mem::take(&mut slot.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(name: &str) -> Option<Comm> {
        Some(Comm::new(name.as_bytes()))
    }

    #[test]
    fn a_container_with_the_same_first_process_takes_the_place() {
        let mut slots = Slots::default();
        let api = slots.take(comm("python"));
        let proxy = slots.take(comm("envoy"));
        slots.vacate(api.slot);
        slots.vacate(proxy.slot);

        let again = slots.take(comm("python"));

        assert_eq!(again, Taken { slot: api.slot, restarts: 1 });
        assert_eq!((slots.take_pending(api.slot), slots.take_pending(api.slot)), (1, 0));
    }

    #[test]
    fn an_init_container_is_not_restarted_by_the_one_that_follows() {
        let mut slots = Slots::default();
        let init = slots.take(comm("migrate"));
        slots.vacate(init.slot);

        let main = slots.take(comm("server"));

        assert_eq!(main, Taken { slot: 1, restarts: 0 });
    }

    #[test]
    fn a_container_too_short_to_be_named_takes_the_place_vacated_last() {
        let mut slots = Slots::default();
        let first = slots.take(None);
        let second = slots.take(None);
        slots.vacate(second.slot);
        slots.vacate(first.slot);

        assert_eq!(slots.take(None), Taken { slot: first.slot, restarts: 1 });
        assert_eq!(slots.take(comm("x")), Taken { slot: second.slot, restarts: 1 });
    }

    #[test]
    fn restarts_go_on_after_the_agent_restarted() {
        let mut slots = Slots::default();
        slots.restore(2, 7, false);

        assert_eq!(slots.take(comm("x")), Taken { slot: 2, restarts: 8 });
    }
}
