//! Groups of members that share a topic's partitions: who owns what, and hand-over in order. Pure: the writer thread
//! holds it and is the only one to change it, so that a commit and a hand-over never overlap.

use crate::model::PartitionId;

/// A member of a group, numbered in the order of joining.
pub(super) type MemberId = u64;

/// Counts up with every assignment in this process, so that a former owner never passes for the owner.
pub(super) type Epoch = u64;

/// The owner of a partition. `G` lives as long as the ownership: its drop tells the lane.
#[derive(Debug)]
pub(super) struct Owner<G> {
    pub(super) member: MemberId,
    pub(super) epoch: Epoch,
    /// Asked to let go: still the owner until it has answered.
    revoking: bool,
    #[expect(dead_code, reason = "held for its drop")]
    guard: G,
}

/// What has to be said to members after a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Give the partition to this member ([`Group::grant`]).
    Grant(PartitionId, MemberId),
    /// Ask its owner for it; it has been marked.
    Revoke(PartitionId, MemberId, Epoch),
}

/// One group on one topic.
#[derive(Debug)]
pub(super) struct Group<G> {
    members: Vec<MemberId>,
    owners: Vec<Option<Owner<G>>>,
}

impl<G> Group<G> {
    pub(super) fn new(partitions: u32) -> Self {
        Self { members: Vec::new(), owners: (0..partitions).map(|_| None).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn join(&mut self, member: MemberId) {
        self.members.push(member);
    }

    /// What the member owned has no owner from now on.
    pub(super) fn leave(&mut self, member: MemberId) {
        self.members.retain(|&other| other != member);
        for owner in &mut self.owners {
            if owner.as_ref().is_some_and(|owner| owner.member == member) {
                *owner = None;
            }
        }
    }

    /// The owner answered its revocation. An answer of a former owner changes nothing.
    pub(super) fn release(&mut self, partition: PartitionId, epoch: Epoch) {
        if self.owns(partition, epoch)
            && let Some(owner) = self.owners.get_mut(partition.0 as usize)
        {
            *owner = None;
        }
    }

    pub(super) fn owns(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.owner(partition, epoch).is_some()
    }

    /// The member that got the partition at `epoch`, if it has it still.
    pub(super) fn owner(&self, partition: PartitionId, epoch: Epoch) -> Option<MemberId> {
        let owner = self.owners.get(partition.0 as usize).and_then(Option::as_ref);
        owner.filter(|owner| owner.epoch == epoch).map(|owner| owner.member)
    }

    pub(super) fn grant(&mut self, partition: PartitionId, member: MemberId, epoch: Epoch, guard: G) {
        if let Some(owner) = self.owners.get_mut(partition.0 as usize) {
            *owner = Some(Owner { member, epoch, revoking: false, guard });
        }
    }

    /// What brings the group nearer to an even share: each member gets `partitions / members` or one more, and keeps
    /// what it has as far as that allows. Only a partition without an owner is granted.
    pub(super) fn balance(&mut self) -> Vec<Step> {
        if self.members.is_empty() {
            return Vec::new();
        }
        let keeps = |owners: &[Option<Owner<G>>], member| {
            owners.iter().flatten().filter(|owner| owner.member == member && !owner.revoking).count()
        };
        // Those that hold most get the ones that are over, so that fewer partitions move.
        let mut shares: Vec<_> =
            self.members.iter().map(|&member| (member, keeps(&self.owners, member))).collect();
        shares.sort_by_key(|&(member, held)| (std::cmp::Reverse(held), member));
        let (each, over) = (self.owners.len() / shares.len(), self.owners.len() % shares.len());
        let mut steps = Vec::new();
        for (index, (member, held)) in shares.iter_mut().enumerate() {
            let quota = each + usize::from(index < over);
            for (partition, owner) in self.owners.iter_mut().enumerate().rev() {
                let Some(owner) = owner else { continue };
                if *held > quota && owner.member == *member && !owner.revoking {
                    owner.revoking = true;
                    *held -= 1;
                    let partition = PartitionId(u32::try_from(partition).unwrap_or(u32::MAX));
                    steps.push(Step::Revoke(partition, *member, owner.epoch));
                }
            }
        }
        let mut free =
            (0..).zip(&self.owners).filter(|(_, owner)| owner.is_none()).map(|(partition, _)| partition);
        for (index, (member, held)) in shares.iter().enumerate() {
            let quota = each + usize::from(index < over);
            let wanted = quota.saturating_sub(*held);
            steps.extend(
                free.by_ref().take(wanted).map(|partition| Step::Grant(PartitionId(partition), *member)),
            );
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `join N`, `leave N`, `answer P` (the revocation of partition P); each grant is carried out at once, and what
    /// happened is told: `+P>N` granted, `-P<N` asked back. The end lists the owners, `.` for none.
    fn check(partitions: u32, story: &[(&str, &str)], end: &str) {
        let mut group = Group::new(partitions);
        let mut epoch = 0;
        let mut asked = std::collections::BTreeMap::new();
        for (act, wanted) in story {
            let (verb, number) = act.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            match verb {
                "join" => group.join(number),
                "leave" => group.leave(number),
                "answer" => group.release(PartitionId(number as u32), asked[&(number as u32)]),
                other => panic!("{other}"),
            }
            let mut told = Vec::new();
            for step in group.balance() {
                match step {
                    Step::Grant(partition, member) => {
                        epoch += 1;
                        group.grant(partition, member, epoch, ());
                        assert!(group.owns(partition, epoch) && !group.owns(partition, epoch - 1));
                        told.push(format!("+{partition}>{member}"));
                    }
                    Step::Revoke(partition, member, epoch) => {
                        asked.insert(partition.0, epoch);
                        assert!(group.owns(partition, epoch), "the owner until it has answered");
                        told.push(format!("-{partition}<{member}"));
                    }
                }
            }
            assert_eq!(told.join(" "), *wanted, "after {act}");
        }
        let owners: String = group
            .owners
            .iter()
            .map(|owner| owner.as_ref().map_or(".".to_owned(), |owner| owner.member.to_string()))
            .collect();
        assert_eq!(owners, end);
    }

    #[test]
    fn partitions_are_shared_evenly_and_move_as_little_as_they_can() {
        check(
            4,
            &[
                ("join 1", "+0>1 +1>1 +2>1 +3>1"),
                ("join 2", "-3<1 -2<1"),
                ("answer 3", "+3>2"),
                ("answer 2", "+2>2"),
                ("join 3", "-3<2"),
                ("answer 3", "+3>3"),
                ("leave 2", "+2>3"),
            ],
            "1133",
        );
    }

    #[test]
    fn a_member_that_leaves_before_it_answered_counts_as_having_answered() {
        check(
            2,
            &[("join 1", "+0>1 +1>1"), ("join 2", "-1<1"), ("leave 1", "+0>2 +1>2"), ("answer 1", "")],
            "22",
        );
    }

    #[test]
    fn a_partition_asked_back_in_vain_goes_to_whoever_is_left() {
        check(2, &[("join 1", "+0>1 +1>1"), ("join 2", "-1<1"), ("leave 2", ""), ("answer 1", "+1>1")], "11");
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        check(1, &[("join 1", "+0>1"), ("join 2", ""), ("leave 1", "+0>2"), ("leave 2", "")], ".");
    }
}
