//! What a call promises while the connection is well.
#![allow(missing_docs)]

mod common;
use common::*;
use shellkeep_transport::*;

#[tokio::test]
async fn a_call_is_answered_with_its_own_answer() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    for n in 0..100 {
        assert_eq!(
            number(patient("the answer", client.call(Ask::Echo(n))).await),
            n
        );
    }
    patient("the close", client.close()).await;
    assert_eq!(server.stop().await, 0);
}
