//! A TCP proxy whose weather can be changed: it carries bytes, cuts, holds back, slows down, or loses the answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::background;

/// How connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    /// Connections end, and new ones end at once.
    Cut,
    /// Connections end, and nobody listens any more.
    Refused,
    /// Connections stay, and nothing comes through until the end.
    Silent,
    /// A few kilobytes a second, each with a delay.
    Slow,
    /// What is sent arrives. The answer does not: the connection ends instead.
    Deaf,
}

/// Where a role finds a server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
}

const SLOW_BYTES: usize = 2 << 10;
const SLOW_PAUSE: Duration = Duration::from_millis(40);

impl Proxy {
    /// Listens at `port` and carries to `server`, which need not be there yet.
    pub(crate) async fn start(port: u16, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, watching) = watch::channel(Weather::Clear);
        background(listen(listener, address, server, watching));
        Self { address, weather }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

/// Takes connections for as long as there is a proxy.
async fn listen(
    mut listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) {
    loop {
        let taking = async {
            while let Ok((client, _)) = listener.accept().await {
                background(connect(client, server, weather.clone()));
            }
        };
        let mut coming = weather.clone();
        let is_over = async { coming.wait_for(|weather| *weather == Weather::Refused).await.is_err() };
        tokio::select! {
            () = taking => return,
            is_over = is_over => if is_over { return },
        }
        drop(listener);
        if weather.wait_for(|weather| *weather != Weather::Refused).await.is_err() {
            return;
        }
        listener = TcpListener::bind(address).await.unwrap();
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    if is_cut(*weather.borrow_and_update()) {
        return;
    }
    // A server that is down refuses: the client sees its connection end.
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let (up, down) = (weather.clone(), weather.clone());
    let cut = async {
        // An error means that the proxy is gone.
        let _ = weather.wait_for(|weather| is_cut(*weather)).await;
    };
    tokio::select! {
        () = carry(client_read, server_write, up, false) => {}
        () = carry(server_read, client_write, down, true) => {}
        () = cut => {}
    }
}

fn is_cut(weather: Weather) -> bool {
    matches!(weather, Weather::Cut | Weather::Refused)
}

/// Carries one way until either side ends.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    are_answers: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = *weather.borrow_and_update();
        let room = if now == Weather::Slow { SLOW_BYTES } else { buffer.len() };
        let Ok(count @ 1..) = from.read(&mut buffer[..room]).await else { return };
        // As it is when the bytes come, not when they were waited for.
        let now = *weather.borrow_and_update();
        match now {
            Weather::Slow => tokio::time::sleep(SLOW_PAUSE).await,
            Weather::Silent => {
                if weather.wait_for(|weather| *weather != Weather::Silent).await.is_err() {
                    return;
                }
            }
            Weather::Deaf if are_answers => return,
            Weather::Clear | Weather::Deaf | Weather::Cut | Weather::Refused => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
