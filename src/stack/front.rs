//! What a stack does to a request before its layers, and what it can tell of it without sending it.

use std::{sync::Arc, time::Duration};

use http::{Request, Uri, header::AUTHORIZATION};

use super::{StackFault, base::Base};
use crate::{
    Gate, KeyCheckLayer, Refused, RequestCheckLayer,
    quota_meter::{Contents, MeterHandle, Permit, Sight},
};

#[derive(Debug)]
pub(super) struct Front {
    pub(super) base: Option<Arc<Base>>,
    pub(super) fault: Option<StackFault>,
    pub(super) request_check: RequestCheckLayer,
    pub(super) keys: Option<KeyCheckLayer>,
    pub(super) meter: MeterHandle,
}

impl Front {
    /// The URL of a request that has but a path.
    pub(super) fn whole(&self, uri: &Uri) -> Option<Uri> {
        self.base.as_ref().and_then(|base| base.complete(uri))
    }

    /// What makes any call like this one fail.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Refused> {
        match self.fault.as_ref()? {
            StackFault::Key(_) if request.headers().contains_key(AUTHORIZATION) => None,
            fault => Some(Refused::new(Gate::Key, None, fault.clone())),
        }
    }

    /// Its head as the meter would see it: with host and key.
    fn head<B>(&self, request: &Request<B>) -> Request<()> {
        let mut head = Request::new(());
        head.method_mut().clone_from(request.method());
        *head.uri_mut() = self.whole(request.uri()).unwrap_or_else(|| request.uri().clone());
        head.headers_mut().clone_from(request.headers());
        head.extensions_mut().clone_from(request.extensions());
        if let Some(keys) = &self.keys {
            keys.foresee(&mut head);
        }
        head
    }

    pub(super) fn expected_wait<B>(&self, request: &Request<B>) -> Option<Duration>
    where
        Contents: Sight<B>,
    {
        self.meter.expected_wait_as(&self.head(request), request)
    }

    pub(super) fn try_acquire<B>(&self, request: &Request<B>) -> Result<Permit, Refused>
    where
        Contents: Sight<B>,
    {
        self.refusal(request).map_or(Ok(()), Err)?;
        self.meter.try_acquire_as(&self.head(request), request)
    }
}
