use crate::log::broker::Broker;

#[test]
fn a_broker_comes_back_where_it_was_killed() {
    let mut broker = Broker::start();
    let address = broker.address();
    std::net::TcpStream::connect(&address).unwrap();
    broker.kill();
    std::net::TcpStream::connect(&address).unwrap_err();
    broker.restart();
    std::net::TcpStream::connect(&address).unwrap();
}
