use crate::node::{ChangeRefused, MemberChange, MembersError, TransferError, TransferRefused};
use crate::server::fake::Mode;
use crate::types::Term;

use super::*;

const REMOVE: MemberChange = MemberChange::Remove { id: NodeId(3) };

#[tokio::test(start_paused = true)]
async fn members_are_told_by_the_leader_after_it_has_confirmed_that_it_leads() {
    let (net, [leader, second, _third]) = Net::three();
    let list = net.client(&[2]).members().await.unwrap();
    assert_eq!(list.leader, Some(NodeId(1)));
    assert_eq!(list.members, leader.state().status.members);
    assert_eq!((leader.state().read_rounds, second.state().read_rounds), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn members_are_not_told_by_a_node_in_the_leaders_place() {
    let (net, [_leader, second, _third]) = Net::three();
    net.reach(1, Reach::Silent);
    let client = net.client(&[2]);
    let error = client.members().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("does not lead")), "{error:?}");
    let error = client.change_members(REMOVE).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert!(second.state().changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn members_change_is_asked_again_of_the_node_that_leads() {
    let (net, [first, second, _third]) = Net::three();
    let client = net.client(&[1, 2, 3]);
    client.put(Bytes::from("a"), Bytes::from("v")).await.unwrap();
    first.follow(2, Some((2, &address(2))));
    second.lead(2);
    let list = client.change_members(REMOVE).await.unwrap();
    assert_eq!(list.leader, Some(NodeId(2)));
    assert!(first.state().changes.is_empty());
    assert_eq!(second.state().changes, [REMOVE]);
}

#[tokio::test(start_paused = true)]
async fn members_change_of_unknown_outcome_is_not_repeated() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    leader.state().changing.push_back(Err(MembersError::Unknown("entry 7 is not committed yet".to_owned())));
    let error = client.change_members(REMOVE).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unknown(text) if text.contains("entry 7")), "{error:?}");
    leader.state().writes = Mode::Hold;
    let change = tokio::spawn({
        let client = client.clone();
        async move { client.change_members(REMOVE).await }
    });
    settle().await;
    net.cut(1).await;
    let error = change.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert_eq!(leader.state().changes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn members_change_that_makes_no_sense_is_told_from_one_that_is_refused() {
    let id = NodeId(3);
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    for (refused, no) in [
        (ChangeRefused::Unknown { id }, true),
        (ChangeRefused::Votes { id }, true),
        (ChangeRefused::IdInUse { id }, true),
        (ChangeRefused::IdUsedBefore { id }, false),
        (ChangeRefused::LastVoter { id }, false),
        (ChangeRefused::Behind { id }, false),
        (ChangeRefused::NoQuorum, false),
    ] {
        leader.state().changing.push_back(Err(refused.clone().into()));
        let text = refused.to_string();
        let error = client.change_members(REMOVE).await.unwrap_err();
        assert_eq!(error, if no { ClientError::No(text) } else { ClientError::Refused(text) });
    }
    let candidate = MembersError::Candidate("nobody listens there".to_owned());
    leader.state().changing.push_back(Err(candidate));
    let error = client.change_members(REMOVE).await.unwrap_err();
    assert_eq!(error, ClientError::Refused("nobody listens there".to_owned()));
    assert_eq!(leader.state().changes.len(), 8, "each was asked for once");
}

#[tokio::test(start_paused = true)]
async fn members_change_waits_for_its_turn_within_the_timeout() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    for refused in [ChangeRefused::UnderWay, ChangeRefused::TooEarly, ChangeRefused::HandingOver { to: NodeId(2) }] {
        leader.state().changing.push_back(Err(refused.into()));
    }
    client.change_members(REMOVE).await.unwrap();
    assert_eq!(leader.state().changes.len(), 4);
}

/// A transfer that node 1 has taken and not answered.
async fn held_transfer(to: u64) -> (Net, [FakeStore; 3], JoinHandle<Result<(), ClientError>>) {
    let (net, stores) = Net::three();
    stores[0].state().writes = Mode::Hold;
    let client = net.client(&[1, 2, 3]);
    let transfer = tokio::spawn(async move { client.transfer_leadership(NodeId(to)).await });
    settle().await;
    assert_eq!(stores[0].state().transfers, [NodeId(to)]);
    (net, stores, transfer)
}

#[tokio::test(start_paused = true)]
async fn transfer_is_done_when_the_new_leader_says_so_itself() {
    let (_net, [first, second, _third], transfer) = held_transfer(2).await;
    first.follow(2, Some((2, &address(2))));
    first.release();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!transfer.is_finished(), "node 2 has not said that it leads");
    second.lead(2);
    transfer.await.unwrap().unwrap();
    assert_eq!(first.state().transfers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn transfer_whose_connection_breaks_is_settled_by_who_leads_then() {
    let (net, [first, second, _third], transfer) = held_transfer(2).await;
    first.follow(2, Some((2, &address(2))));
    second.lead(2);
    net.cut(1).await;
    transfer.await.unwrap().unwrap();

    let (net, [first, _second, third], transfer) = held_transfer(2).await;
    first.follow(2, Some((3, &address(3))));
    third.lead(2);
    net.cut(1).await;
    let error = transfer.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert!(third.state().transfers.is_empty(), "it is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn transfer_to_the_leader_is_done_and_to_others_than_fit_voters_is_not() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    let to = NodeId(1);
    leader.state().transferring.push_back(Err(TransferRefused::LeadsAlready { to }.into()));
    client.transfer_leadership(to).await.unwrap();
    let to = NodeId(9);
    leader.state().transferring.push_back(Err(TransferRefused::NotAVoter { to }.into()));
    assert!(matches!(client.transfer_leadership(to).await, Err(ClientError::No(_))));
    let to = NodeId(2);
    leader.state().transferring.push_back(Err(TransferRefused::Unfit { to }.into()));
    assert!(matches!(client.transfer_leadership(to).await, Err(ClientError::Refused(_))));
    leader.state().transferring.push_back(Err(TransferError::GivenUp));
    assert!(matches!(client.transfer_leadership(to).await, Err(ClientError::Unknown(_))));
}

/// Node 4, which no client was told of.
fn fourth(net: &Net) -> FakeStore {
    let store = FakeStore::leader();
    store.state().status.id = NodeId(4);
    store.follow(1, Some((1, &address(1))));
    let (registry, served) = (Registry::new(16), Vec::new());
    let host = Host { store: store.clone(), registry, reach: Reach::Open, cluster: 1, epoch: Epoch::FIRST, served };
    net.hosts().insert(address(4), host);
    store
}

#[tokio::test(start_paused = true)]
async fn client_finds_members_that_came_after_its_start_when_all_others_have_gone() {
    let (net, [first, ..]) = Net::three();
    let fourth = fourth(&net);
    let client = net.client(&[1]);
    client.put(Bytes::from("a"), Bytes::from("v")).await.unwrap();
    first.state().status.members = [1, 4].map(|id| MemberStatus::voter(NodeId(id), address(id))).to_vec();
    tokio::time::sleep(Duration::from_secs(5)).await;
    [1, 2, 3].into_iter().for_each(|id| net.reach(id, Reach::Refused));
    net.cut(1).await;
    fourth.lead(2);
    client.put(Bytes::from("b"), Bytes::from("v")).await.unwrap();
    assert_eq!(fourth.state().proposed, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn status_shows_the_members_that_the_leader_names_and_whoever_answers_beside_them() {
    let (net, [first, _second, third]) = Net::three();
    first.state().status.members = [1, 2].map(|id| MemberStatus::voter(NodeId(id), address(id))).to_vec();
    third.state().status.term = Term(1);
    net.reach(2, Reach::Refused);
    let shown = |status: ClusterStatus| -> Vec<(u64, bool)> {
        status.nodes.iter().map(|(id, _address, answer)| (id.get(), answer.is_ok())).collect()
    };
    let status = net.client(&[1, 3]).status().await.unwrap();
    assert_eq!(status.members.members.len(), 2);
    assert_eq!(shown(status), [(1, true), (2, false), (3, true)]);
    net.reach(3, Reach::Refused);
    assert_eq!(shown(net.client(&[1, 3]).status().await.unwrap()), [(1, true), (2, false)]);
}
