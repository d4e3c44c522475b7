import express from 'express';

const app = express();
const handler = (name) => (_request, response) => response.set('X-Handler', name).send(name);
app.all('/healthz', handler('health'));
app.use('/v1/agents', handler('agents'));
app.all('/v1/chat\\:complete', handler('chat'));
app.all('/users/@me', handler('me'));
app.use('/admin', handler('admin'));
app.use(handler('other'));
const server = app.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
